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

// params are the parameters of a call, by name. What the client sent may be anything at all: every accessor
// panics with a *res.Error that tells the client what is wrong, which is go-res's way of answering with an error.
type params map[string]json.RawMessage

// parseParams takes a call's parameters, which must be an object with no other members than those named.
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

// has tells whether the client gave the parameter.
func (p params) has(name string) bool { _, ok := p[name]; return ok }

// text is a line of text of at least one and at most limit characters, without blanks around it.
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

// id is a whole number above zero.
func (p params) id(name string) int {
	var n *int
	if raw, ok := p[name]; !ok {
		panic(invalid("%s is missing", name))
	} else if json.Unmarshal(raw, &n) != nil || n == nil || *n <= 0 {
		panic(invalid("%s must be a whole number above 0", name))
	}
	return *n
}

// unprintable is true for characters that have no place in a line of text: control characters, line and
// paragraph separators, and the marks that reverse the direction of what follows them.
func unprintable(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r)
}

func invalid(format string, args ...any) *res.Error {
	return &res.Error{Code: res.CodeInvalidParams, Message: fmt.Sprintf(format, args...)}
}
