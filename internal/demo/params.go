package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jirenius/go-res"
)

// params are the named parameters of a call. A client may send any JSON: the accessors panic with a
// *res.Error that says what is wrong, which go-res turns into an error response.
type params map[string]json.RawMessage

// parseParams parses a call's parameters: an object with no members other than those named.
func parseParams(raw json.RawMessage, names ...string) params {
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return params{}
	}
	var p params
	if json.Unmarshal(raw, &p) != nil {
		panic(invalid("params must be an object"))
	}
	for name := range p {
		if len(names) == 0 {
			panic(invalid("params: none are taken"))
		}
		if !slices.Contains(names, name) {
			panic(invalid("params: only %s", strings.Join(names, ", ")))
		}
	}
	return p
}

// has reports whether the client sent the parameter.
func (p params) has(name string) bool { _, ok := p[name]; return ok }

// text returns a line of 1 to limit characters, without surrounding blanks.
func (p params) text(name string, limit int) string {
	var s *string
	if raw, ok := p[name]; !ok {
		panic(invalid("%s is missing", name))
	} else if json.Unmarshal(raw, &s) != nil || s == nil {
		panic(invalid("%s must be a string", name))
	}
	line := strings.TrimSpace(*s)
	switch {
	case line == "":
		panic(invalid("%s must not be empty", name))
	case utf8.RuneCountInString(line) > limit:
		panic(invalid("%s must not be longer than %d characters", name, limit))
	case strings.ContainsFunc(line, unprintable):
		panic(invalid("%s must be one line of plain text", name))
	}
	return line
}

// id returns a positive integer.
func (p params) id(name string) int {
	var n *int
	if raw, ok := p[name]; !ok {
		panic(invalid("%s is missing", name))
	} else if json.Unmarshal(raw, &n) != nil || n == nil || *n <= 0 {
		panic(invalid("%s must be a whole number above 0", name))
	}
	return *n
}

// unprintable reports whether r is invalid in a line of text: control characters, line and
// paragraph separators, and marks that change the text direction.
func unprintable(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r)
}

func invalid(format string, args ...any) *res.Error {
	return &res.Error{Code: res.CodeInvalidParams, Message: fmt.Sprintf(format, args...)}
}
