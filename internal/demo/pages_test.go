package demo

import (
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func newTestPages(t *testing.T, opt Options) http.Handler {
	t.Helper()
	d, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return d.Pages()
}

func fetch(h http.Handler, method, path string, header ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestPagesAnswers(t *testing.T) {
	h := newTestPages(t, Options{})
	for path, kind := range map[string]string{
		"/":            "text/html; charset=utf-8",
		"/app.js":      "text/javascript; charset=utf-8",
		"/client.js":   "text/javascript; charset=utf-8",
		"/style.css":   "text/css; charset=utf-8",
		"/favicon.svg": "image/svg+xml; charset=utf-8",
	} {
		r := fetch(h, "GET", path+"?fresh=1")
		body, _ := io.ReadAll(r.Body)
		if r.StatusCode != 200 || len(body) == 0 {
			t.Errorf("%s: %d, %d bytes", path, r.StatusCode, len(body))
		}
		for name, want := range map[string]string{
			"Content-Type":            kind,
			"Cache-Control":           "no-cache",
			"X-Content-Type-Options":  "nosniff",
			"Content-Security-Policy": contentPolicy,
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %s %q, want %q", path, name, got, want)
			}
		}
		etag := r.Header.Get("ETag")
		if again := fetch(h, "GET", path, "If-None-Match", etag); again.StatusCode != 304 || again.Header.Get("ETag") != etag {
			t.Errorf("%s: %d for the same ETag", path, again.StatusCode)
		}
		head := fetch(h, "HEAD", path)
		if b, _ := io.ReadAll(head.Body); head.StatusCode != 200 || len(b) != 0 || head.ContentLength != int64(len(body)) {
			t.Errorf("%s: HEAD gave %d, %d bytes, length %d", path, head.StatusCode, len(b), head.ContentLength)
		}
		if post := fetch(h, "POST", path); post.StatusCode != 405 || post.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: POST gave %d", path, post.StatusCode)
		}
	}
	for _, path := range []string{"/index.html", "/web/app.js", "/../demo.go", "/app.js/", "//", "/nothing"} {
		if r := fetch(h, "GET", path); r.StatusCode != 404 {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
}

func TestPagesNotFoundIsTheOwners(t *testing.T) {
	h := newTestPages(t, Options{NotFound: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }})
	if r := fetch(h, "GET", "/nothing"); r.StatusCode != http.StatusTeapot {
		t.Errorf("%d", r.StatusCode)
	}
}

func TestPageKnowsTheWebSocketPath(t *testing.T) {
	for path, want := range map[string]string{"": `data-ws="/"`, `/w"<s`: `data-ws="/w&#34;&lt;s"`} {
		body, _ := io.ReadAll(fetch(newTestPages(t, Options{WSPath: path}), "GET", "/").Body)
		if !strings.Contains(string(body), want) || strings.Contains(string(body), wsPathMark) {
			t.Errorf("path %q: the page does not say %s", path, want)
		}
	}
}

// The page loads nothing from elsewhere, its links exist, and data never becomes markup.
func TestPageIsSelfContainedAndSafe(t *testing.T) {
	h := newTestPages(t, Options{})
	refers := regexp.MustCompile(`(?:src|href)="([^"#]+)"|from "([^"]+)"|url\(([^)]+)\)`)
	unsafe := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|\sstyle="|\son[a-z]+="|<script>|<style>`)
	files, err := fs.Glob(web, "web/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		raw, err := web.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bad := unsafe.Find(raw); bad != nil {
			t.Errorf("%s has %q", name, bad)
		}
		for _, m := range refers.FindAllSubmatch(raw, -1) {
			target := string(m[1]) + string(m[2]) + string(m[3])
			if !strings.HasPrefix(target, "/") || strings.HasPrefix(target, "//") {
				t.Errorf("%s refers to %s", name, target)
			} else if r := fetch(h, "GET", target); r.StatusCode != 200 {
				t.Errorf("%s refers to %s, which is answered with %d", name, target, r.StatusCode)
			}
		}
	}
}
