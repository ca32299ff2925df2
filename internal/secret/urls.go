// Package secret owns values that contain credentials. Formatting, logging and encoding such a
// value redacts the credentials. It also redacts them in other texts, such as errors of libraries.
//
// It never encrypts, and never hides a value from code, which calls Reveal.
package secret

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Hidden replaces credentials.
const Hidden = "…"

// URLs is the address of a NATS server, or several separated by commas, which may have user names,
// passwords and tokens. Every way to print it redacts those.
type URLs string

// Reveal returns the addresses unredacted, for a connection or a configuration file.
func (u URLs) Reveal() string { return string(u) }

// List returns the single addresses, split as the NATS client splits them.
func (u URLs) List() []string {
	var all []string
	for s := range strings.SplitSeq(string(u), ",") {
		if s = strings.TrimSpace(s); s != "" {
			all = append(all, s)
		}
	}
	return all
}

// plainHost matches the part of an address that is shown: a host, and a port.
var plainHost = regexp.MustCompile(`^([A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9]+)?\])(:[0-9]{0,5})?$`)

// address is one address of a list, parsed for display. The list is not split as the client splits
// it: a comma may be part of a password that should have been encoded. So everything before an @
// counts as secret, unless a scheme begins after the comma.
type address struct {
	scheme string // with ://
	hidden string // before the last @
	host   string // after it
	secret bool   // there is an @
}

func (u URLs) addresses() []address {
	var texts []string
	rest := string(u)
	for rest != "" {
		part, after, _ := strings.Cut(rest, ",")
		if len(texts) > 0 && !strings.Contains(part, "://") && strings.Contains(rest, "@") {
			texts[len(texts)-1] += "," + part
		} else {
			texts = append(texts, part)
		}
		rest = after
	}
	var all []address
	for _, s := range texts {
		var a address
		if i := strings.Index(s, "://"); i >= 0 && !strings.Contains(s[:i], "@") {
			a.scheme, s = s[:i+3], s[i+3:]
		}
		a.host = s
		if i := strings.LastIndexByte(s, '@'); i >= 0 {
			a.hidden, a.host, a.secret = s[:i], s[i+1:], true
		}
		all = append(all, a)
	}
	return all
}

// String returns the addresses without user names, passwords, tokens and paths, and without a host
// that is not clearly a host name or an IP address.
func (u URLs) String() string {
	var b strings.Builder
	for i, a := range u.addresses() {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strings.TrimSpace(a.scheme))
		if a.secret {
			b.WriteString(Hidden + "@")
		}
		host := strings.TrimSpace(a.host)
		if cut := strings.IndexAny(host, "/?#"); cut >= 0 {
			host = host[:cut]
		}
		if !plainHost.MatchString(host) {
			host = Hidden
		}
		b.WriteString(host)
	}
	return b.String()
}

// Format implements fmt.Formatter: every verb prints String.
func (u URLs) Format(f fmt.State, verb rune) {
	if verb == 'q' {
		fmt.Fprintf(f, "%q", u.String())
		return
	}
	_, _ = io.WriteString(f, u.String())
}

// LogValue implements slog.LogValuer.
func (u URLs) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalJSON implements json.Marshaler: it shows what String shows.
func (u URLs) MarshalJSON() ([]byte, error) { return json.Marshal(u.String()) }

// MarshalText implements encoding.TextMarshaler: it shows what String shows.
func (u URLs) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

const encodeAdvice = `; in a user name, password or token, characters that are special in a URL must be percent-encoded, such as / as %2F, a comma as %2C, @ as %40, # as %23, ? as %3F, % as %25`

// Check returns an error for an address that the NATS client rejects, or may understand differently
// than meant. The error has no part of the addresses.
func (u URLs) Check() error {
	list := u.List()
	advice := ""
	if strings.Contains(string(u), "@") {
		advice = encodeAdvice
	}
	webSockets := 0
	for i, s := range list {
		which := "the address"
		if len(list) > 1 {
			which = fmt.Sprintf("address %d of %d", i+1, len(list))
		}
		if !strings.Contains(s, "://") {
			s = "nats://" + s
		}
		p, err := url.Parse(s)
		switch {
		case err != nil:
			return fmt.Errorf("%s is not a NATS URL: write nats://host:port%s", which, cmp.Or(advice, encodeAdviceIf(s)))
		case strings.Contains(p.Path+p.RawQuery+p.Fragment, "@"):
			return fmt.Errorf("%s has an @ after its host: write nats://host:port%s", which, advice)
		case p.Scheme == "ws" || p.Scheme == "wss":
			webSockets++
		}
	}
	if webSockets > 0 && webSockets < len(list) {
		return errors.New("addresses of the schemes ws and wss cannot be mixed with others: use one kind")
	}
	return nil
}

// encodeAdviceIf returns the advice for an address that seems to have a password but has no @ after
// it.
func encodeAdviceIf(s string) string {
	if _, rest, _ := strings.Cut(s, "://"); strings.Contains(rest, ":") && !strings.Contains(rest, "[") {
		return ", or nats://user:password@host:port" + encodeAdvice
	}
	return ""
}

// OtherSchemes returns the number of addresses with a scheme that the NATS client does not know,
// and treats as nats.
func (u URLs) OtherSchemes() int {
	n := 0
	for _, s := range u.List() {
		if p, err := url.Parse(s); err == nil && strings.Contains(s, "://") && !slices.Contains([]string{"nats", "tls", "ws", "wss"}, p.Scheme) {
			n++
		}
	}
	return n
}

// Scrub redacts text: the credentials of the addresses, or parts of them, percent-encoded or not,
// and the credentials of other URLs.
func (u URLs) Scrub(text string) string {
	var pieces []string
	add := func(s string) {
		if len(s) >= 3 { // shorter ones occur in many words
			pieces = append(pieces, s)
		}
		if plain, err := url.PathUnescape(s); err == nil && plain != s && len(plain) >= 3 {
			pieces = append(pieces, plain)
		}
	}
	for _, a := range u.addresses() {
		if !a.secret {
			continue
		}
		add(a.hidden)
		if user, password, ok := strings.Cut(a.hidden, ":"); ok {
			add(user)
			add(password)
		}
		plain, _ := url.PathUnescape(a.hidden)
		for _, s := range strings.FieldsFunc(a.hidden+" "+plain, func(r rune) bool { return strings.ContainsRune(":,/@?# ", r) }) {
			add(s)
		}
	}
	slices.SortFunc(pieces, func(a, b string) int { return len(b) - len(a) })
	for _, p := range pieces {
		text = strings.ReplaceAll(text, p, Hidden)
	}
	return Text(text)
}

// Error returns err with its message redacted as by Scrub. errors.Is and errors.As still find err
// and what it wraps.
func (u URLs) Error(err error) error {
	if err == nil {
		return nil
	}
	message := err.Error()
	if clean := u.Scrub(message); clean != message {
		return scrubbed{clean, err}
	}
	return err
}

type scrubbed struct {
	message string
	err     error
}

func (s scrubbed) Error() string { return s.message }
func (s scrubbed) Unwrap() error { return s.err }

// userInfo matches the scheme and user information of a URL, up to the last @, in any text.
var userInfo = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s"'<>]*@`)

// bareInfo matches the user information of an address without a scheme.
var bareInfo = regexp.MustCompile(`[^\s"'<>=,;()]+@`)

// Text redacts the user names, passwords and tokens of the URLs in a text.
func Text(s string) string {
	s = userInfo.ReplaceAllString(s, "${1}"+Hidden+"@")
	return bareInfo.ReplaceAllStringFunc(s, func(word string) string {
		if strings.Contains(word, "://") {
			return word // redacted already
		}
		return Hidden + "@"
	})
}
