package httpapi

import "strings"

// items calls f with each element of a list-valued field and its weight in thousandths (RFC 9110
// sections 5.6.1 and 12.4.2). An invalid weight counts as 0, not acceptable. Other parameters are
// ignored.
func items(values []string, f func(item string, weight int)) {
	for _, v := range values {
		for more := true; more; {
			var item string
			item, v, more = strings.Cut(v, ",")
			name, params, _ := strings.Cut(item, ";")
			if name = strings.TrimSpace(name); name != "" {
				f(name, weight(params))
			}
		}
	}
}

// weight returns the weight among an element's parameters, 1000 if there is none.
func weight(params string) int {
	for params != "" {
		var p string
		p, params, _ = strings.Cut(params, ";")
		key, value, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(key), "q") {
			return qvalue(strings.TrimSpace(value))
		}
	}
	return 1000
}

// qvalue parses 0 to 1 with at most three decimals as thousandths. It returns 0 for anything else.
func qvalue(s string) int {
	if s == "" || len(s) > 5 || s[0] != '0' && s[0] != '1' || len(s) > 1 && s[1] != '.' {
		return 0
	}
	n := int(s[0]-'0') * 1000
	for i, scale := 2, 100; i < len(s); i, scale = i+1, scale/10 {
		if s[i] < '0' || s[i] > '9' {
			return 0
		}
		n += int(s[i]-'0') * scale
	}
	if n > 1000 {
		return 0
	}
	return n
}

// WantsStream reports whether a GET with this Accept field asks for server-sent events: the field
// names them, with a weight not below that of JSON.
func WantsStream(accept []string) bool {
	stream, other := 0, 0
	items(accept, func(item string, weight int) {
		switch {
		case strings.EqualFold(item, "text/event-stream"):
			stream = max(stream, weight)
		case strings.EqualFold(item, "application/json"):
			other = max(other, weight)
		}
	})
	return stream > 0 && stream >= other
}

// coding is a content coding (RFC 9110 section 8.4.1).
type coding uint8

const (
	identity coding = iota
	gzipped
	brotlied
	codings
)

func (c coding) String() string { return [codings]string{"identity", "gzip", "br"}[c] }

// chooseCoding returns the content coding with the greatest weight, of equal ones the one that
// compresses best. Without the field it is identity (RFC 9110 section 12.5.3).
func chooseCoding(accept []string) coding {
	// Codings that are not named have the weight of the asterisk, if there is one.
	weights, rest := [codings]int{-1, -1, -1}, -1
	items(accept, func(item string, weight int) {
		switch {
		case strings.EqualFold(item, "br"):
			weights[brotlied] = weight
		case strings.EqualFold(item, "gzip") || strings.EqualFold(item, "x-gzip"):
			weights[gzipped] = weight
		case strings.EqualFold(item, "identity"):
			weights[identity] = weight
		case item == "*":
			rest = weight
		}
	})
	best, most := identity, 0
	for c := brotlied; c > identity; c-- {
		if weights[c] < 0 {
			weights[c] = rest
		}
		if weights[c] > most {
			best, most = c, weights[c]
		}
	}
	if weights[identity] > most {
		return identity
	}
	return best
}

// matchesTag reports whether If-None-Match has the entity tag, by weak comparison (RFC 9110
// sections 13.1.2 and 8.8.3.2).
func matchesTag(values []string, tag string) bool {
	tag = strings.TrimPrefix(tag, "W/")
	for _, v := range values {
		for v = strings.TrimLeft(v, " \t,"); v != ""; v = strings.TrimLeft(v, " \t,") {
			if v[0] == '*' {
				return true
			}
			v = strings.TrimPrefix(v, "W/")
			if v == "" || v[0] != '"' {
				break // malformed: the rest of the line is ignored
			}
			end := strings.IndexByte(v[1:], '"')
			if end < 0 {
				break
			}
			if v[:end+2] == tag {
				return true
			}
			v = v[end+2:]
		}
	}
	return false
}
