package jwtauth

import (
	"bytes"
	"net/url"
	"strings"
)

// Place is where a request carries its token.
type Place uint8

const (
	Nowhere  Place = iota // the request has no token
	InHeader              // Authorization: Bearer
	InCookie              // a cookie
	InQuery               // a parameter of the target's query
)

// Found is the token of a request, and where it was.
type Found struct {
	Token string
	Place Place
	name  string // of the cookie or query parameter
}

// Fields are the header fields of a request. wsproto.Head implements it.
type Fields interface {
	// Each calls f with each field.
	Each(f func(name, value []byte))
}

// Find returns the token of a request with a target and header fields. Authorization is looked at
// first, then the cookie, then the query; the first token counts. If tokens are not verified,
// nothing is found.
func (a *Auth) Find(target []byte, fields Fields) Found {
	p := a.current.Load()
	if p == nil {
		return Found{}
	}
	return find(p.o.Cookie, p.o.Query, target, fields)
}

func find(cookie, query string, target []byte, fields Fields) (found Found) {
	inCookie := ""
	fields.Each(func(name, value []byte) {
		switch {
		case found.Place == Nowhere && bytes.EqualFold(name, []byte("Authorization")):
			if token, ok := bearer(value); ok {
				found = Found{Token: token, Place: InHeader}
			}
		case cookie != "" && inCookie == "" && bytes.EqualFold(name, []byte("Cookie")):
			eachCookie(value, func(n, v []byte) bool {
				if string(n) == cookie {
					inCookie = strings.Trim(string(v), `"`)
				}
				return true
			})
		}
	})
	switch {
	case found.Place != Nowhere:
		return found
	case inCookie != "":
		return Found{Token: inCookie, Place: InCookie, name: cookie}
	case query == "":
		return Found{}
	}
	_, raw, _ := bytes.Cut(target, []byte{'?'})
	for part := range bytes.SplitSeq(raw, []byte{'&'}) {
		name, value, _ := bytes.Cut(part, []byte{'='})
		if string(name) != query || len(value) == 0 {
			continue
		}
		token, err := url.QueryUnescape(string(value))
		if err != nil {
			token = string(value) // which is no token
		}
		return Found{Token: token, Place: InQuery, name: query}
	}
	return Found{}
}

// bearer returns the token of an Authorization field with the scheme Bearer (RFC 6750 section 2.1).
// Other schemes are not the gateway's.
func bearer(value []byte) (token string, ok bool) {
	scheme, rest, _ := bytes.Cut(value, []byte{' '})
	if !bytes.EqualFold(scheme, []byte("Bearer")) {
		return "", false
	}
	rest = bytes.Trim(rest, " ")
	return string(rest), len(rest) > 0
}

// eachCookie calls f with the name and value of each pair of a Cookie field (RFC 6265 section 4.2)
// until f returns false.
func eachCookie(value []byte, f func(name, value []byte) bool) {
	for pair := range bytes.SplitSeq(value, []byte{';'}) {
		name, v, _ := bytes.Cut(pair, []byte{'='})
		if !f(bytes.TrimSpace(name), bytes.TrimSpace(v)) {
			return
		}
	}
}

// Fields returns fields without the token: services get its claims, and a request that they log
// cannot be used again.
func (f *Found) Fields(fields Fields) Fields {
	if f.Place != InHeader && f.Place != InCookie {
		return fields
	}
	return &stripped{fields, f}
}

// stripped are fields without the token.
type stripped struct {
	Fields
	found *Found
}

// Each implements Fields.
func (s *stripped) Each(f func(name, value []byte)) {
	s.Fields.Each(func(name, value []byte) {
		switch {
		case s.found.Place == InHeader && bytes.EqualFold(name, []byte("Authorization")):
			if _, ok := bearer(value); ok {
				return
			}
		case s.found.Place == InCookie && bytes.EqualFold(name, []byte("Cookie")):
			if value = without(value, ';', s.found.name); len(value) == 0 {
				return
			}
		}
		f(name, value)
	})
}

// Query returns a request's query without the token.
func (f *Found) Query(query string) string {
	if f.Place != InQuery || query == "" {
		return query
	}
	return string(without([]byte(query), '&', f.name))
}

// Target returns a request's target without the token.
func (f *Found) Target(target []byte) []byte {
	path, query, ok := bytes.Cut(target, []byte{'?'})
	if f.Place != InQuery || !ok {
		return target
	}
	query = without(query, '&', f.name)
	if len(query) == 0 {
		return path
	}
	return append(append(bytes.Clone(path), '?'), query...)
}

// without returns a list of pairs without those that have a name, as a copy.
func without(list []byte, separator byte, name string) []byte {
	var kept [][]byte
	for pair := range bytes.SplitSeq(list, []byte{separator}) {
		n, _, _ := bytes.Cut(pair, []byte{'='})
		if string(bytes.TrimSpace(n)) != name {
			kept = append(kept, pair)
		}
	}
	return bytes.TrimSpace(bytes.Join(kept, []byte{separator}))
}
