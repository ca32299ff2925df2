package result

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Decode reads the JSON form of a result of any kind. schema returns the version that it has, want
// is the one that the program knows.
func Decode[T any](from io.Reader, schema func(*T) int, want int) (*T, error) {
	r := new(T)
	if err := json.NewDecoder(from).Decode(r); err != nil {
		return nil, err
	}
	if has := schema(r); has != want {
		return nil, fmt.Errorf("the result has schema %d, this program reads %d", has, want)
	}
	return r, nil
}

// Encode writes the JSON form of a result, indented, so that differences between files can be read.
func Encode(to io.Writer, r any) error {
	e := json.NewEncoder(to)
	e.SetIndent("", " ")
	return e.Encode(r)
}

// Between replaces what is between two marks of a Markdown text, each a line with its end.
func Between(text []byte, begin, end, by string) ([]byte, error) {
	before, rest, ok1 := bytes.Cut(text, []byte(begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok1 || !ok2 {
		return nil, errors.New("the marks for the tables are missing: " + strings.TrimSpace(begin) + " and " + strings.TrimSpace(end))
	}
	return slices.Concat(before, []byte(begin+"\n"+by+"\n"+end), after), nil
}
