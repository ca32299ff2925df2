package httpapi

import (
	"testing"

	"sluice/internal/res"
)

// RES.md section 4: CORS, for requests and for preflights.
func TestCORS(t *testing.T) {
	list := []string{"http://localhost", "https://Sluice.example:8080"}
	for _, tt := range []struct {
		allow       []string
		origin      string
		ok          bool
		field, vary string
	}{
		{nil, "http://localhost", true, "*", ""},
		{[]string{"*"}, "http://localhost", true, "*", ""},
		{[]string{"*"}, "", true, "*", ""},
		{[]string{"*"}, "null", true, "*", ""},
		{[]string{"http://localhost"}, "http://localhost", true, "http://localhost", "Origin"},
		{list, "http://localhost", true, "http://localhost", "Origin"},
		{list, "https://sluice.example:8080", true, "https://sluice.example:8080", "Origin"},
		{list, "HTTPS://SLUICE.example:8080", true, "HTTPS://SLUICE.example:8080", "Origin"},
		{list, "", true, "", "Origin"},
		{list, "null", true, "", "Origin"},
		{list, "http://example.com", false, "http://localhost", "Origin"},
		{list, "https://localhost", false, "http://localhost", "Origin"},
		{list, "http://localhost:80", false, "http://localhost", "Origin"},
		{list, "http://localhos", false, "http://localhost", "Origin"},
		{list, "http://localhost.evil.example", false, "http://localhost", "Origin"},
		{list, "Null", false, "http://localhost", "Origin"},
		// Unicode folds the Kelvin sign to k; ASCII comparison does not.
		{[]string{"http://k.example"}, "http://\u212a.example", false, "http://k.example", "Origin"},
		{[]string{"http://A.example"}, "http://b.example", false, "http://a.example", "Origin"},
	} {
		for _, auth := range []bool{false, true} {
			f := &fakeBackend{graph: world.graph(t, "m"), result: res.CallResult{Payload: []byte("null")}}
			h := New(Options{AllowOrigin: tt.allow, HeaderAuth: auth, PUT: "set"}, f)
			credentials := ""
			if auth {
				credentials = "true"
			}
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"} {
				var origin []string
				if tt.origin != "" {
					origin = []string{"Origin", tt.origin}
				}
				asked := f.asked
				w := ask(t, h, method, "/api/test/model", "", origin...)
				expectHeader(t, w, "Access-Control-Allow-Origin", tt.field, "Vary", tt.vary, "Access-Control-Allow-Credentials", credentials)
				switch {
				case method == "OPTIONS":
					expect(t, w, 200, "")
				case !tt.ok:
					body := `{"code":"system.forbidden","message":"Forbidden origin"}`
					if method == "HEAD" {
						body = ""
					}
					expect(t, w, 403, body)
					if f.asked != asked {
						t.Error("a foreign origin reached the backend")
					}
				case w.Code == 403:
					t.Error("rejected")
				}
				if t.Failed() {
					t.Fatalf("%s with %v and the origin %q", method, tt.allow, tt.origin)
				}
			}
		}
	}
}

func TestOptionsEchoAskedHeaders(t *testing.T) {
	h := New(Options{}, &fakeBackend{})
	for _, tt := range []struct {
		asked []string
		want  string
	}{
		{nil, ""},
		{[]string{"Content-Type"}, "Content-Type"},
		{[]string{"X-PINGOTHER, Content-Type"}, "X-PINGOTHER, Content-Type"},
		{[]string{"X-PINGOTHER", "Content-Type", "Authorization"}, "X-PINGOTHER, Content-Type, Authorization"},
	} {
		var header []string
		for _, a := range tt.asked {
			header = append(header, "Access-Control-Request-Headers", a)
		}
		w := ask(t, h, "OPTIONS", "/api/test/model", "", header...)
		expect(t, w, 200, "")
		expectHeader(t, w, "Access-Control-Allow-Headers", tt.want, "Access-Control-Allow-Methods", "GET, HEAD, OPTIONS, POST")
	}
}

// Only paths below the API path have CORS fields.
func TestNoCORSElsewhere(t *testing.T) {
	w := ask(t, New(Options{HeaderAuth: true}, &fakeBackend{}), "GET", "/elsewhere", "", "Origin", "http://a.example")
	expect(t, w, 404, errorBody(res.ErrNotFound))
	expectHeader(t, w, "Access-Control-Allow-Origin", "", "Access-Control-Allow-Credentials", "")
}
