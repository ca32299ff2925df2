package resmodel

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// reference decodes as Decode does, by encoding/json alone.
func reference(s string) (v any) {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	if d.Decode(&v) != nil || d.More() {
		return nil
	}
	return v
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`null`, `true`, ` false `, `0`, `-1.5e+7`, `""`, `"a"`, `"\u00e4\n\"\\"`, `"ä"`, "\"\xff\"", "\"\u007f\"", `[]`, `{}`, `[[],{}]`, "[ 1 ,\t2\r\n]",
		`{"a":1,"b":[true,false,null,"x"],"c":{"rid":"test.m"}}`, `{"a":1,"a":2}`, `{"a" : { "\u0062" :[ ] } }`,
		``, ` `, `1 2`, `{}}`, `[1,]`, `{"a"}`, `{"a":}`, `"a`, `01`, `truefalse`, `nul`, `+1`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := Decode(s)
		if valid := json.Valid([]byte(s)); (err == nil) != valid || valid && !reflect.DeepEqual(v, reference(s)) {
			t.Errorf("%q: %#v, %v", s, v, err)
		}
	})
}
