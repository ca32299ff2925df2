// Package alternate has the hints by which a gateway sends clients to another one: which URL each
// of them gets, and how it is written in a close frame, a response and a stream of server-sent
// events (docs/extensions.md).
//
// It owns the list of URLs. It never decides when a client is sent away: the gateway does.
package alternate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync/atomic"
)

const (
	// Field is the name of the response field with a hint.
	Field = "Sluice-Alternate"

	prefix = "try " // of a close reason

	// MaxURL is the length of the longest URL, in bytes: with the prefix it fits into a close frame
	// (RFC 6455 section 5.5.1).
	MaxURL = 125 - 2 - len(prefix)
)

// Check reports what is wrong with the URL of another gateway. Its errors do not quote it, because
// it may contain a password.
func Check(s string) error {
	if len(s) > MaxURL {
		return fmt.Errorf("an alternate of %d bytes does not fit into a close frame: use a URL of at most %d", len(s), MaxURL)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return errors.New("an alternate has a space or a character beyond ASCII: percent-encode it, and write a host in its ASCII form (xn--)")
		}
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("an alternate is not a URL: write one such as wss://eu2.example.com/")
	case u.Scheme != "ws" && u.Scheme != "wss" && u.Scheme != "http" && u.Scheme != "https":
		return errors.New("an alternate begins with none of wss://, ws://, https:// and http://: write one such as wss://eu2.example.com/")
	case u.Hostname() == "":
		return errors.New("an alternate has no host: write one such as wss://eu2.example.com/")
	case u.User != nil:
		return errors.New("an alternate has a user name or password, which each client would see: remove it")
	case strings.Contains(s, "#"):
		return errors.New("an alternate has a fragment (#), which a WebSocket URL must not have: remove it")
	}
	return nil
}

// Reason returns the reason of the close frame that sends a client to a URL.
func Reason(url string) string { return prefix + url }

// Line returns the complete field line of a response, with its CR LF, that does the same.
func Line(url string) string { return Field + ": " + url + "\r\n" }

// Event returns the server-sent event that does the same. A page's EventSource ignores it unless
// the page listens to events of this name.
func Event(url string) []byte { return []byte("event: alternate\ndata: " + url + "\n\n") }

// Rotation gives each client that is sent away a URL, in turn, so that the other gateways get equal
// shares. It begins at a random one: gateways that stop together do not all begin at the same. Any
// goroutine may use it. The zero value and nil have no URLs.
type Rotation struct {
	urls atomic.Pointer[[]string]
	next atomic.Uint32
}

// Set replaces the URLs. They have passed Check, and are not changed afterwards.
func (r *Rotation) Set(urls []string) {
	r.next.Store(rand.Uint32() >> 1) // half of the range: it does not wrap around soon
	r.urls.Store(&urls)
}

// Next returns the URL for the next client; "" if there are none.
func (r *Rotation) Next() string {
	if r == nil {
		return ""
	}
	urls := r.urls.Load()
	if urls == nil || len(*urls) == 0 {
		return ""
	}
	return (*urls)[r.next.Add(1)%uint32(len(*urls))]
}
