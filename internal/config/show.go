package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"sluice/internal/secret"
)

// Effective returns every setting that means something to the program, a gateway or a relay, with
// its value and the source of that: a line of the file, a variable, a flag, or the default. It is
// YAML, but for values that are not shown because they may contain a credential. It is empty if not
// even the command line could be read.
func (s *Setup) Effective() []byte {
	if s.sources == nil {
		return nil
	}
	c := s.Config.WithDefaults()
	var left []string
	width := 0
	var b bytes.Buffer
	for i := range settings {
		left = append(left, settings[i].key+": "+string(settings[i].shown(&c)))
		width = max(width, min(len(left[i]), sourceColumn))
	}
	for i := range settings {
		if !settings[i].concerns(s.Relay) {
			continue
		}
		source := s.sources[&settings[i]]
		if source == "" {
			source = "default"
		}
		fmt.Fprintf(&b, "%-*s  # %s\n", width, left[i], source)
	}
	return b.Bytes()
}

// sourceColumn bounds the column in which sources begin: longer values move only their own.
const sourceColumn = 60

// shown returns the filled value as JSON for people. Every way to print a value goes through it.
// What may contain a credential is not shown, also where it was written by mistake.
func (s *setting) shown(c *Config) json.RawMessage {
	value := s.toJSON(c)
	if s.has(secretValue) {
		if text, ok := value.(string); ok {
			value = s.redacted(text)
		}
		return jsonOf(value)
	}
	switch v := value.(type) {
	case string:
		value = guarded(v)
	case []string:
		all := make([]string, len(v))
		for i := range v {
			all[i] = guarded(v[i])
		}
		value = all
	}
	return jsonOf(value)
}

// redacted returns the text of a secretValue without its credentials.
func (s *setting) redacted(text string) string {
	if _, whole := s.value.(*typed[secret.Key]); whole {
		return secret.Key(text).String()
	}
	return secret.URLs(text).String()
}

// guarded returns a text unless it may be or contain a credential.
func guarded(text string) string {
	if strings.Contains(text, "@") || looksSecret(text) {
		return secret.Hidden
	}
	return text
}

// Shown returns all settings of c by their keys, as they may be shown: without credentials.
func Shown(c Config) map[string]json.RawMessage {
	c = c.WithDefaults()
	all := make(map[string]json.RawMessage, len(settings))
	for i := range settings {
		all[settings[i].key] = settings[i].shown(&c)
	}
	return all
}
