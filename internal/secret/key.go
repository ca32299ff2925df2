package secret

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// Key is a value that is secret as a whole. Every way to print it shows only whether there is one.
type Key string

// Reveal returns the value, for its use or a configuration file.
func (k Key) Reveal() string { return string(k) }

// String returns Hidden, or "" if the value is empty.
func (k Key) String() string {
	if k == "" {
		return ""
	}
	return Hidden
}

// Format implements fmt.Formatter: every verb prints String.
func (k Key) Format(f fmt.State, verb rune) {
	if verb == 'q' {
		fmt.Fprintf(f, "%q", k.String())
		return
	}
	_, _ = io.WriteString(f, k.String())
}

// LogValue implements slog.LogValuer.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalJSON implements json.Marshaler: it shows what String shows.
func (k Key) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

// MarshalText implements encoding.TextMarshaler: it shows what String shows.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }
