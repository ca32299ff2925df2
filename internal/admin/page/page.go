// Package page has the admin port's page: files that need no other, and no network but the
// API beside them.
//
// It never asks the gateway anything: the page's script asks the API.
package page

import (
	"embed"
	"net/http"
	"strings"
)

//go:embed web
var web embed.FS

// files are the paths of the page, each with its file and content type. Package mime's table
// depends on the machine.
var files = []struct{ path, file, kind string }{
	{"/{$}", "index.html", "text/html; charset=utf-8"},
	{"/app.js", "app.js", "text/javascript; charset=utf-8"},
	{"/icon.svg", "icon.svg", "image/svg+xml"},
	{"/trace.js", "trace.js", "text/javascript; charset=utf-8"},
	{"/style.css", "style.css", "text/css; charset=utf-8"},
}

// Has reports whether a path is one of the page's files.
func Has(path string) bool {
	for _, f := range files {
		if strings.TrimSuffix(f.path, "{$}") == path {
			return true
		}
	}
	return false
}

// Register adds the page's files to mux.
func Register(mux *http.ServeMux) {
	for _, f := range files {
		text, err := web.ReadFile("web/" + f.file)
		if err != nil {
			panic(err) // it is embedded
		}
		mux.HandleFunc("GET "+f.path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", f.kind)
			_, _ = w.Write(text)
		})
	}
}
