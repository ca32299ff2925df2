package livetrace

import (
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":1,"b":[true,"x"]}`:                             `{"a":1,"b":[true,"x"]}`,
		`{"token":{"user":{"id":7}},"cid":"c","params":[1]}`: `{"token":"…","cid":"c","params":[1]}`,
		`{"token":null,"cid":"c"}`:                           `{"token":null,"cid":"c"}`,
		`{"hasToken":true}`:                                  `{"hasToken":true}`,
		`{"a":{"newPassword" : "sesame", "n":1}}`:            `{"a":{"newPassword" :"…", "n":1}}`,
		`{"a":[{"api_key":12345},{"API-Key":"x"}]}`:          `{"a":[{"api_key":"…"},{"API-Key":"…"}]}`,
		`{"\u0074oken":"sesame"}`:                            `{"\u0074oken":"…"}`,
		`{"pin":1234}`:                                       `{"pin":"…"}`,
		`{"spin":1234}`:                                      `{"spin":1234}`,
		`{"secret":"a\"b","c":1}`:                            `{"secret":"…","c":1}`,
		`{"secret":["}",{"a":"]"}],"c":1}`:                   `{"secret":"…","c":1}`,
		`{"x":"eyJhbGciOiJIUzI1NiJ9.e30.abc"}`:               `{"x":"…"}`,
		`{"x":"eyJ is a word"}`:                              `{"x":"eyJ is a word"}`,
		`"token"`:                                            `"token"`,
		`not JSON`:                                           `not JSON`,
		"\xff":                                               "\uFFFD",
		``:                                                   ``,
	} {
		if got := redact([]byte(in)); got != want {
			t.Errorf("%s is shown as %s, want %s", in, got, want)
		}
	}
}

// However much of a text is missing at its end, no part of a secret is shown.
func TestRedactWhatIsCut(t *testing.T) {
	for _, text := range []string{
		`{"a":1,"token":"SESAME","b":2}`,
		`{"a":1,"token" : {"x":["SESAME"],"y":{"z":"SESAME"}},"b":2}`,
		`{"a":"eyJSESAME.x.y","b":2}`,
		`{"pass\u0077ord":"SESAME\\\"SESAME"}`,
		`{"authorization":SESAME}`,
	} {
		for n := range len(text) + 1 {
			if got := redact([]byte(text[:n])); strings.Contains(got, "S") {
				t.Errorf("%s is shown as %s", text[:n], got)
			}
		}
		if got := redact([]byte(text)); strings.Contains(text, `"b":2`) != strings.Contains(got, `"b":2`) {
			t.Errorf("%s is shown as %s", text, got)
		}
	}
}

func TestRedactRID(t *testing.T) {
	for in, want := range map[string]string{
		"library.book":                         "library.book",
		"library.book?start=0&limit=5":         "library.book?start=0&limit=5",
		"library.book?access_token=x&limit=5":  "library.book?access_token=…&limit=5",
		"library.book?a=1&password=a=b&c&pwd=": "library.book?a=1&password=…&c&pwd=…",
	} {
		if got := RedactRID(in); got != want {
			t.Errorf("%s is shown as %s, want %s", in, got, want)
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add([]byte(`{"a":1,"token":"x","b":[{"pin":"\u0031"}]}`))
	f.Add([]byte(`{"token":`))
	f.Fuzz(func(t *testing.T, text []byte) {
		// A value that a secret name precedes is never shown, whatever stands around.
		whole := append(append([]byte(nil), `{"token":"qzqzq",`...), text...)
		if strings.Contains(redact(whole), "qzqzq") && !strings.Contains(string(text), "qzqzq") {
			t.Errorf("%s is shown as %s", whole, redact(whole))
		}
		redact(text)
	})
}
