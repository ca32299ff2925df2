package gateway

import "testing"

func TestTraceText(t *testing.T) {
	for in, want := range map[string]string{
		`{"id":1,"method":"subscribe.a"}`:                               `{"id":1,"method":"subscribe.a"}`,
		`{"id":1,"method":"call.a.set","params":{"b":1}}`:               `{"id":1,"method":"call.a.set","params":{"b":1}}`,
		`{"id":2,"method":"auth.login","params":{"password":"sesame"}}`: `{"id":2,"method":"auth.login","params":…}`,
		`{"params":"sesame","method":"\u0061uth.login","id":"x"}`:       `{"id":"x","method":"auth.login","params":…}`,
		`{"method":"auth.login","params":"sesame"`:                      "(not a request, 40 bytes)",
		`{"id":3,"method":"get.a","METHOD":"auth.b","params":"sesame"}`: `{"id":3,"method":"auth.b","params":…}`,
		`"auth.login sesame"`:                                           "(not a request, 19 bytes)",
	} {
		if got := traceText([]byte(in)); got != want {
			t.Errorf("%s is traced as %s, want %s", in, got, want)
		}
	}
}
