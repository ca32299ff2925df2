package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"sluice/internal/admin/page"
)

// RequestHeader must be in each request that changes something, unless it has a token: no page of
// another origin can add it.
const RequestHeader = "Sluice-Admin"

// answerWithin bounds the time of an answer that owners have a part in.
const answerWithin = 5 * time.Second

// maxBody bounds the body of a request, in bytes.
const maxBody = 64 << 10

// refusal is an error with its HTTP status.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// guard lets requests through that may see the gateway. The page's own files need no token: they
// say nothing about the gateway, and ask for the token.
func (s *Server) guard(next http.Handler) http.Handler {
	foreign := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		switch a := s.access.Load(); {
		case a.outdated(r):
			h.Set("Connection", "close")
			fail(w, refuse(http.StatusMisdirectedRequest, "the admin port has other settings of TLS now: connect again"))
		case a.token == nil && !knownHost(r.Host, a.mutual()):
			fail(w, refuse(http.StatusMisdirectedRequest, "host %q is not the admin port: use localhost or an IP address", r.Host))
		case foreign.Check(r) != nil, crossSite(r):
			fail(w, refuse(http.StatusForbidden, "the request comes from a page of another origin"))
		case a.token != nil && !page.Has(r.URL.Path) && !a.has(r):
			h.Set("WWW-Authenticate", "Bearer")
			fail(w, refuse(http.StatusUnauthorized, "the header Authorization: Bearer with the token of adminTokenFile is needed"))
		case r.Method == http.MethodPost && a.token == nil && r.Header.Get(RequestHeader) == "":
			fail(w, refuse(http.StatusForbidden, "a POST needs the header %s: 1", RequestHeader))
		default:
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			next.ServeHTTP(&plain{ResponseWriter: w}, r)
		}
	})
}

// knownHost reports whether a request's Host cannot be the name of a foreign page whose address
// was changed to this one (DNS rebinding): that has to be a name. With client certificates (mutual)
// TLS has checked the name.
func knownHost(host string, mutual bool) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" || mutual {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

// crossSite reports whether a browser says that another site's page has made the request. Reads
// have no side effect, but a profile costs time.
func crossSite(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return site == "cross-site" || site == "same-site"
}

// answer returns a handler that responds with f's value as JSON, or with its error. At most
// maxQuestions run at a time.
func (s *Server) answer(f func(ctx context.Context, r *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			w.Header().Set("Retry-After", "1")
			fail(w, refuse(http.StatusServiceUnavailable, "%d questions are being answered: ask again later", maxQuestions))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
		defer cancel()
		v, err := f(ctx, r)
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	})
}

// fail responds with an error.
func fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var r *refusal
	if errors.As(err, &r) {
		status = r.status
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct {
		Error string `json:"error"`
	}{err.Error()})
}

// plain turns the mux's own errors, which are text, into JSON.
type plain struct {
	http.ResponseWriter
	replaced bool
}

// WriteHeader implements http.ResponseWriter.
func (p *plain) WriteHeader(status int) {
	text := p.Header().Get("Content-Type")
	if kind, _, _ := mime.ParseMediaType(text); kind == "text/plain" && (status == http.StatusNotFound || status == http.StatusMethodNotAllowed) {
		p.replaced = true
		what := "there is nothing here: docs/admin.md lists the paths"
		if status == http.StatusMethodNotAllowed {
			what = "the method is not allowed here, but " + p.Header().Get("Allow")
		}
		fail(p.ResponseWriter, refuse(status, "%s", what))
		return
	}
	p.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (p *plain) Write(b []byte) (int, error) {
	if p.replaced {
		return len(b), nil
	}
	return p.ResponseWriter.Write(b)
}

// Unwrap returns the writer for http.ResponseController.
func (p *plain) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// readJSON reads the body of a request into v.
func readJSON(r *http.Request, v any) error {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, "the body must be JSON: send the header Content-Type: application/json")
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return refuse(http.StatusBadRequest, "the body is not what is wanted: %v", err)
	}
	return nil
}
