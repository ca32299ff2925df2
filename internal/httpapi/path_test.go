package httpapi

import (
	"net/http"
	"strings"
	"testing"

	"sluice/internal/res"
)

// RES.md section 4: the path of a resource.
func TestRID(t *testing.T) {
	h := New(Options{}, nil)
	for _, tt := range []struct {
		path, query string
		want        string // empty: none
	}{
		{"/api/test", "", "test"},
		{"/api/test/model", "", "test.model"},
		{"/api/a/b/c/d", "", "a.b.c.d"},
		{"/api/test/model", "q=foo&f=bar", "test.model?q=foo&f=bar"},
		{"/api/test/model", "q=a%20b+c%zz", "test.model?q=a%20b+c%zz"}, // the query is taken as it is
		{"/api/test/model", "a?b", "test.model?a?b"},
		{"/api/test/model", "a.b/c", "test.model?a.b/c"},
		{"/api/t%65st/m%6Fdel", "", "test.model"},
		{"/api/test/$%7Bcid%7D", "", "test.${cid}"},
		{"/api/test/a%2Fb", "", "test.a/b"},
		{"/api/test/a%25b", "", "test.a%b"},
		{"/api/test/~!$&'()+,;=:@-_", "", "test.~!$&'()+,;=:@-_"},
		{"/api/test%2Emodel", "", "test.model"},
		{"/api/test/model%3Fq=1", "", "test.model?q=1"},
		{"/api/test/model%3Fq=1", "r=2", "test.model?q=1?r=2"},
		{"/api/test/model%3Fa/b", "", "test.model?a.b"},
		{"/api/test/model%3F", "", "test.model?"},
		{"/api/m%3F%FF%00", "", "m?\xff\x00"},

		{"/api/", "", ""},
		{"/api", "", ""},
		{"/api", "q", ""},
		{"/", "", ""},
		{"", "", ""},
		{"/apix/test", "", ""},
		{"/%61pi/test", "", ""},
		{"/wrong_prefix/test/model", "", ""},
		{"/api/test.model", "", ""},
		{"/api/test/./model", "", ""},
		{"/api/../test", "", ""},
		{"/api/test/model/", "", ""},
		{"/api/test/model%3Fa/", "", ""},
		{"/api/test//model", "", ""},
		{"/api//test", "", ""},
		{"/api/?q=1", "", ""},
		{"/api/%3Fq=1", "", ""},
		{"/api/", "q=1", ""},
		{"/api/test/m%C3%A5del", "", ""},
		{"/api/test/m\u00e5del", "", ""},
		{"/api/test/a%20b", "", ""},
		{"/api/test/a%00", "", ""},
		{"/api/test/a%7F", "", ""},
		{"/api/test/%2A", "", ""},
		{"/api/test/*", "", ""},
		{"/api/test/%3E", "", ""},
		{"/api/test/%2E", "", ""},
		{"/api/test/%", "", ""},
		{"/api/test/%4", "", ""},
		{"/api/test/%4g", "", ""},
		{"/api/test/%g4", "", ""},
	} {
		rid, ok := h.RID(tt.path, tt.query)
		if ok != (tt.want != "") || ok && rid != tt.want {
			t.Errorf("RID(%q, %q) is %q, %t, want %q", tt.path, tt.query, rid, ok, tt.want)
		}
	}
}

func TestMethod(t *testing.T) {
	h := New(Options{}, nil)
	for _, tt := range []struct {
		path, query, rid, method string // an empty rid: none
	}{
		{"/api/test/method", "", "test", "method"},
		{"/api/test/model/method", "", "test.model", "method"},
		{"/api/test/model/method", "q=foo&f=bar", "test.model?q=foo&f=bar", "method"},
		{"/api/test/m%65thod", "", "test", "method"},
		{"/api/test%3Fa/b/method", "", "test?a.b", "method"},
		{"/api/test/a%2Fb", "", "test", "a/b"},

		{"/api/", "", "", ""},
		{"/api/action", "", "", ""},
		{"/api//action", "", "", ""},
		{"/api/test.model/action", "", "", ""},
		{"/api/test/act.ion", "", "", ""},
		{"/api/test/act%2Eion", "", "", ""},
		{"/api/test/act%3Fion", "", "", ""},
		{"/api/test/model/action/", "", "", ""},
		{"/api/test//action", "", "", ""},
		{"/api/test/\u00e4ction", "", "", ""},
		{"/api/test/m%C3%A5del/action", "", "", ""},
		{"/api/test/%zz", "", "", ""},
		{"/api/%zz/action", "", "", ""},
		{"/wrong_prefix/test/model/action", "", "", ""},
	} {
		rid, method, ok := h.Method(tt.path, tt.query)
		if ok != (tt.rid != "") || ok && (rid != tt.rid || method != tt.method) {
			t.Errorf("Method(%q, %q) is %q, %q, %t, want %q, %q", tt.path, tt.query, rid, method, ok, tt.rid, tt.method)
		}
	}
}

func TestPath(t *testing.T) {
	h := New(Options{}, nil)
	for _, tt := range []struct{ rid, want string }{
		{"test.model", "/api/test/model"},
		{"test.model?", "/api/test/model"},
		{"test.model?q=foo&f=bar", "/api/test/model?q=foo&f=bar"},
		{"test.model?a.b/c?d", "/api/test/model?a.b/c?d"},
		{"test.model?a%20b", "/api/test/model?a%20b"},
		// Queries that a browser or proxy may change become part of the path.
		{"test.model?a b", "/api/test/model%3Fa%20b"},
		{"test.model?a%2", "/api/test/model%3Fa%252"},
		{"test.model?a#b", "/api/test/model%3Fa%23b"},
		{"test.model?'.b..", "/api/test/model%3F%27/b%2E%2E"},
		{"test.model?<..b.", "/api/test/model%3F%3C%2E/b%2E"},
		{"test.model?\u00e5", "/api/test/model%3F%C3%A5"},
		{"test.model?\"\r\n", "/api/test/model%3F%22%0D%0A"},
		{"test.a/b", "/api/test/a%2Fb"},
		{"test.{cid}", "/api/test/%7Bcid%7D"},
		{`test."<%>\^|` + "`", "/api/test/%22%3C%25%3E%5C%5E%7C%60"},
		{"test.-_~$&+=:@", "/api/test/-_~$&+=:@"},
		{"test.!'(),;#[]", "/api/test/%21%27%28%29%2C%3B%23%5B%5D"},
	} {
		if got := h.Path(tt.rid); got != tt.want {
			t.Errorf("Path(%q) is %q, want %q", tt.rid, got, tt.want)
		}
	}
}

// Resources are below the setting with a slash at its end, in the escaping of net/url.
func TestAPIPath(t *testing.T) {
	for _, tt := range []struct {
		setting, path string
	}{
		{"", "/api/x/y"},
		{"/api", "/api/x/y"},
		{"/api/", "/api/x/y"},
		{"/", "/x/y"},
		{"/v1/res", "/v1/res/x/y"},
		{"/my api", "/my%20api/x/y"},
		{"/my%20api", "/my%2520api/x/y"}, // the setting is the decoded path
		{`/"`, "/%22/x/y"},
		{"/å", "/%C3%A5/x/y"},
		{"/a?b", "/a%3Fb/x/y"},
	} {
		h := New(Options{APIPath: tt.setting}, nil)
		if got := h.Path("x.y"); got != tt.path {
			t.Errorf("with %q the path is %q, want %q", tt.setting, got, tt.path)
		}
		if rid, ok := h.RID(tt.path, ""); !ok || rid != "x.y" || !h.Below([]byte(tt.path)) {
			t.Errorf("with %q the resource of %q is %q, %t", tt.setting, tt.path, rid, ok)
		}
	}
	for setting, paths := range map[string][]string{
		"/api":   {"/api", "/apis/x", "/", "", "/API/x", "/api%2Fx", "/%61%70%69", "/ap%69%", "/ap%6", "/%zzpi/x", "/%61pi/x"},
		"api":    {"/api/x", "/x"}, // as with Resgate
		"//":     {"/x", "/"},
		"/a%20b": {"/a%20b/x"},
	} {
		h := New(Options{APIPath: setting}, nil)
		for _, path := range paths {
			if h.Below([]byte(path)) {
				t.Errorf("with %q, %q is a path of resources", setting, path)
			}
		}
	}
	h := New(Options{APIPath: "/my api/"}, nil)
	if !h.IsAPIPath("/my%20api") || h.IsAPIPath("/my%20api/") || h.IsAPIPath("/my api") {
		t.Error("the API path itself is not recognised")
	}
}

// The mapping gets the target of a request as the client sent it, not as url.URL decodes it.
func TestTargetReachesMappingUndecoded(t *testing.T) {
	for target, want := range map[string]string{
		"/api/test/a%2Fb":           "test.a/b",
		"/api/test/a%25b":           "test.a%b",
		"/api/test/a%2525":          "test.a%25",
		"/api/test/model?a=%41":     "test.model?a=%41",
		"/api/test/model?":          "test.model",
		"http://host/api/test?a=b#": "test?a=b#",
	} {
		f := &fakeBackend{err: res.ErrNotFound}
		ask(t, New(Options{}, f), http.MethodGet, target, "")
		if f.rid != want {
			t.Errorf("%s asks for %q, want %q", target, f.rid, want)
		}
	}
}

// Every valid resource ID has a path that is printable, and that RID maps back to it. An empty
// query counts as none.
func FuzzPathOfRID(f *testing.F) {
	for _, s := range []string{"a", "a.b.c", "a?b", "a?", "a?..", "a?b.c.", "a?.b", "a?%", "a?%41", "a?%\xff", "a?\x00 \"", "{cid}.~", "a??", "a?/..//", "a?%2", "a?'"} {
		f.Add(s)
	}
	h := New(Options{}, nil)
	f.Fuzz(func(t *testing.T, rid string) {
		if !res.ValidRID(rid) {
			return
		}
		target := h.Path(rid)
		for _, c := range []byte(target) {
			if c <= ' ' || c >= 0x7F || c == '"' || c == '\\' {
				t.Fatalf("the path of %q is %q", rid, target)
			}
		}
		path, query, _ := strings.Cut(target, "?")
		if strings.Contains(path, "//") || strings.Contains(path, ".") {
			t.Fatalf("the path of %q is %q", rid, target)
		}
		if back, ok := h.RID(path, query); !ok || back != strings.TrimSuffix(rid, "?") && back != rid {
			t.Fatalf("%q has the path %q, which names %q, %t", rid, target, back, ok)
		}
		// The same through net/http.
		b := &fakeBackend{err: res.ErrNotFound}
		ask(t, New(Options{}, b), http.MethodGet, target, "")
		if b.rid != strings.TrimSuffix(rid, "?") && b.rid != rid {
			t.Fatalf("%q has the path %q, which through net/http names %q", rid, target, b.rid)
		}
	})
}

// For any target, RID and Method return only valid resource IDs and methods.
func FuzzRIDOfPath(f *testing.F) {
	for _, s := range []string{"test/model", "a%2Eb", "a%3Fb/c", "a//b", "a/", "%", "a%4", ".", "", "a%00", "?"} {
		f.Add(s, "")
		f.Add(s, "q=1")
	}
	h := New(Options{}, nil)
	f.Fuzz(func(t *testing.T, path, query string) {
		path = "/api/" + path
		if rid, ok := h.RID(path, query); ok {
			if !res.ValidRID(rid) || strings.HasSuffix(path, "/") || strings.Contains(path, ".") {
				t.Fatalf("%q, %q gives %q", path, query, rid)
			}
			if p, q, _ := strings.Cut(h.Path(rid), "?"); true {
				if back, ok := h.RID(p, q); !ok || back != strings.TrimSuffix(rid, "?") && back != rid {
					t.Fatalf("%q, %q is %q, whose path names %q", path, query, rid, back)
				}
			}
		}
		if rid, method, ok := h.Method(path, query); ok && (!res.ValidRID(rid) || !res.ValidPart(method)) {
			t.Fatalf("%q, %q gives %q of %q", path, query, method, rid)
		}
	})
}
