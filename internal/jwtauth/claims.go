package jwtauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"sluice/internal/res"
)

var errClaims = errors.New("the claims are malformed")

// claims are the claims of a token, unaltered: no number loses digits. Names are compared exactly,
// which encoding/json does not do for a struct.
type claims struct {
	raw      []byte // compact JSON
	members  map[string]json.RawMessage
	exp, nbf *jwt.NumericDate
	iss      string
	aud      jwt.ClaimStrings
}

var _ jwt.Claims = (*claims)(nil)

// UnmarshalJSON implements json.Unmarshaler.
func (c *claims) UnmarshalJSON(b []byte) (err error) {
	if !utf8.Valid(b) || json.Unmarshal(b, &c.members) != nil || c.members == nil {
		return errClaims
	}
	var compact bytes.Buffer
	if json.Compact(&compact, b) != nil {
		return errClaims
	}
	c.raw = compact.Bytes()
	if c.exp, err = date(c.members["exp"]); err != nil {
		return err
	}
	if c.nbf, err = date(c.members["nbf"]); err != nil {
		return err
	}
	if iss := c.members["iss"]; iss != nil && json.Unmarshal(iss, &c.iss) != nil {
		return errClaims
	}
	if aud := c.members["aud"]; aud != nil && json.Unmarshal(aud, &c.aud) != nil {
		return errClaims
	}
	return nil
}

// date reads a NumericDate (RFC 7519 section 2); nil if it is absent.
func date(raw json.RawMessage) (*jwt.NumericDate, error) {
	if raw == nil {
		return nil, nil
	}
	seconds, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.Abs(seconds) > 1<<52 {
		return nil, errClaims
	}
	whole, fraction := math.Modf(seconds)
	return &jwt.NumericDate{Time: time.Unix(int64(whole), int64(fraction*1e9))}, nil
}

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.exp, nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.nbf, nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil } // not checked
func (c *claims) GetIssuer() (string, error)                   { return c.iss, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.aud, nil }
func (c *claims) GetSubject() (string, error)                  { return "", nil } // not checked

// path names a claim: its name, or a JSON Pointer (RFC 6901), which begins with a slash. Empty:
// none.
type path []string

func parsePath(s string) (path, error) {
	switch {
	case s == "":
		return nil, nil
	case s[0] != '/':
		return path{s}, nil
	}
	p := strings.Split(s[1:], "/")
	for i, part := range p {
		plain := strings.ReplaceAll(strings.ReplaceAll(part, "~1", ""), "~0", "")
		if strings.Contains(plain, "~") {
			return nil, errors.New("a ~ in a JSON Pointer is written ~0, and a slash in a name ~1")
		}
		p[i] = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
	}
	return p, nil
}

// of returns the claim that the path names; nil if there is none.
func (p path) of(c *claims) json.RawMessage {
	if len(p) == 0 {
		return nil
	}
	raw := c.members[p[0]]
	for _, part := range p[1:] {
		if raw == nil {
			return nil
		}
		if raw[0] == '[' {
			var all []json.RawMessage
			i, err := strconv.Atoi(part)
			if json.Unmarshal(raw, &all) != nil || err != nil || i < 0 || i >= len(all) {
				return nil
			}
			raw = all[i]
			continue
		}
		var members map[string]json.RawMessage
		if json.Unmarshal(raw, &members) != nil {
			return nil
		}
		raw = members[part]
	}
	return raw
}

// field is one member of the connection's token.
type field struct {
	key  []byte // JSON string with its colon
	from path
}

// parseFields reads a template: the names of claims, or name=claim to rename one.
func parseFields(template []string) (fields []field, err error) {
	seen := map[string]bool{}
	for _, s := range template {
		name, from, renamed := strings.Cut(s, "=")
		if !renamed {
			from = name
			if strings.HasPrefix(name, "/") {
				return nil, fmt.Errorf("a JSON Pointer needs a name in front: write name=%s", s)
			}
		}
		if name == "" || from == "" {
			return nil, errors.New("write the name of a claim, or name=claim")
		}
		if seen[name] {
			return nil, fmt.Errorf("two claims have the name %s: rename one with name=claim", name)
		}
		seen[name] = true
		p, err := parsePath(from)
		if err != nil {
			return nil, err
		}
		fields = append(fields, field{append(res.AppendString(nil, name), ':'), p})
	}
	return fields, nil
}

// token returns the connection's token: the claims that fields pick, or all if there are none.
// Claims that the token does not have are omitted.
func (c *claims) token(fields []field) string {
	if len(fields) == 0 {
		return string(c.raw)
	}
	b := []byte{'{'}
	for _, f := range fields {
		value := f.from.of(c)
		if value == nil {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, f.key...)
		var compact bytes.Buffer
		if json.Compact(&compact, value) != nil {
			return "" // cannot happen: value is part of valid JSON
		}
		b = append(b, compact.Bytes()...)
	}
	return string(append(b, '}'))
}

// id returns a claim as a token ID: a string, or a number as it is written; "" for any other.
func (c *claims) id(p path) string {
	raw := p.of(c)
	if len(raw) == 0 {
		return ""
	}
	var s string
	switch {
	case raw[0] == '"' && json.Unmarshal(raw, &s) == nil:
		return s
	case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
		return string(raw)
	}
	return ""
}
