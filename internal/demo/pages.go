package demo

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html"
	"io/fs"
	"net/http"
	"path"
	"time"

	"sluice/docs/client"
)

//go:embed web
var web embed.FS

// contentTypes maps the embedded files' extensions. Package mime's table depends on the machine.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml; charset=utf-8",
}

// wsPathMark is the placeholder for the WebSocket path in index.html.
const wsPathMark = "{{wsPath}}"

// contentPolicy allows the page to load its own files and to connect to its own gateway only.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pages serves the embedded files from memory. It is immutable.
type pages struct {
	files    map[string]file // by path
	notFound http.HandlerFunc
}

type file struct {
	content []byte
	kind    string // Content-Type
	etag    string
}

func newPages(wsPath string, notFound http.HandlerFunc) (*pages, error) {
	p := &pages{files: map[string]file{}, notFound: notFound}
	entries, err := fs.ReadDir(web, "web")
	if err != nil {
		return nil, fmt.Errorf("demo: embedded files: %w", err)
	}
	p.add("/client.js", client.Source, contentTypes[".js"])
	for _, e := range entries {
		content, err := web.ReadFile("web/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("demo: embedded files: %w", err)
		}
		kind, ok := contentTypes[path.Ext(e.Name())]
		if !ok {
			return nil, fmt.Errorf("demo: no content type for embedded file %s", e.Name())
		}
		url := "/" + e.Name()
		if e.Name() == "index.html" {
			url = "/"
			content = bytes.ReplaceAll(content, []byte(wsPathMark), []byte(html.EscapeString(wsPath)))
		}
		p.add(url, content, kind)
	}
	return p, nil
}

func (p *pages) add(url string, content []byte, kind string) {
	sum := sha256.Sum256(content)
	p.files[url] = file{content: content, kind: kind, etag: `"` + hex.EncodeToString(sum[:12]) + `"`}
}

// Pages returns a handler for the demo's page at "/" and its files; NotFound handles other paths.
// Browsers may cache the files but must revalidate, so a new binary's page shows immediately.
func (d *Demo) Pages() http.Handler { return d.pages }

func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := p.files[r.URL.Path]
	if !ok {
		p.notFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "Method not allowed", http.StatusMethodNotAllowed)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("ETag", f.etag)
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
