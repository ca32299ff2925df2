package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// writeDefaults creates the file at path. It is readable by its owner only, because users go on to
// put credentials into it.
func writeDefaults(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	text := encodeFile(Config{})
	if isYAML(path) {
		text = Commented()
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// encodeFile returns c, defaults filled in, as a configuration file in JSON: one setting per line
// in the order of the table.
func encodeFile(c Config) []byte {
	c = c.WithDefaults()
	var b bytes.Buffer
	b.WriteString("{")
	for i := range settings {
		if i > 0 {
			b.WriteByte(',')
		}
		value, err := json.Marshal(settings[i].toJSON(&c))
		if err != nil {
			panic(err) // strings, numbers and booleans always have a JSON form
		}
		fmt.Fprintf(&b, "\n\t%q: %s", settings[i].key, value)
	}
	b.WriteString("\n}\n")
	return b.Bytes()
}

// Commented returns a configuration file in YAML with every setting at its default, each with a
// comment that says what it does and how else it is set.
func Commented() []byte {
	defaults := Config{}.WithDefaults()
	var b bytes.Buffer
	b.WriteString(`# Configuration of Sluice. Flags and environment variables win over this file. A setting at its
# default, as all are here, may as well be removed. "sluice check --config <file>" checks the file.
`)
	group := ""
	for i := range settings {
		s := &settings[i]
		if s.group != group {
			group = s.group
			fmt.Fprintf(&b, "\n##### %s\n", group)
		}
		b.WriteByte('\n')
		for _, line := range wrap(s.description(), 97) {
			fmt.Fprintf(&b, "# %s\n", line)
		}
		names := s.env()
		if s.flag != "" {
			names = "--" + s.flag + ", " + names
		}
		fmt.Fprintf(&b, "# (%s; %s)\n", s.bounds(), names)
		fmt.Fprintf(&b, "%s: %s\n", s.key, jsonOf(s.toJSON(&defaults)))
	}
	return b.Bytes()
}

// wrap breaks a text into lines of at most width bytes, but for longer words.
func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
