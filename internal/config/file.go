package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
)

// readFile applies the settings of a JSON file to c and returns the keys it
// does not know, which are the user's to remove. Errors name the file, and the
// line and column where that makes sense.
func readFile(c *Config, path string) (unknown []string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("config file: %w", err)
	}
	unknown, err = decodeFile(c, text)
	if err != nil {
		err = fmt.Errorf("config file %s%w", path, err)
	}
	return unknown, err
}

// writeDefaults creates the file at path. It is readable by its owner only,
// because users go on to put credentials into it.
func writeDefaults(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(encodeFile(Config{}))
	return errors.Join(err, f.Close())
}

// encodeFile returns c, defaults filled in, as a configuration file: one
// setting per line in the order of the table.
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

// decodeFile reads text into c. Keys are compared without regard to case, as
// Resgate does. A setting at its default counts as left out, since a written
// file names them all: the file that "sluice demo -c" wrote must not keep the
// next demo from choosing for itself. Its errors begin with ":line:column: " of
// the fault.
func decodeFile(c *Config, text []byte) (unknown []string, err error) {
	at := func(offset int64, err error) error {
		line, column := position(text, offset)
		return fmt.Errorf(":%d:%d: %w", line, column, err)
	}
	text, err = plainText(text)
	if err != nil {
		return nil, at(0, err)
	}
	// The syntax is checked as a whole first; its errors know their place
	// better than those of the decoder that takes the members apart.
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		offset := int64(len(text))
		if s, ok := errors.AsType[*json.SyntaxError](err); ok && !strings.HasPrefix(s.Error(), "unexpected end") {
			offset = s.Offset - 1 // it counts the offending byte
		}
		return nil, at(offset, errors.New(withoutCharacter(err.Error())))
	}
	if string(bytes.TrimSpace(text)) == "null" {
		return nil, nil // Resgate takes it for a file that sets nothing
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if open, _ := dec.Token(); open != json.Delim('{') {
		return nil, at(0, errors.New(`must be one JSON object, such as {"port": 8080}`))
	}
	defaults := Config{}.WithDefaults()
	chosen := map[*setting]bool{} // a key that comes twice counts as it came last
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, at(dec.InputOffset(), err)
		}
		key, _ := token.(string) // nothing else can stand here
		start := dec.InputOffset()
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, at(start, err)
		}
		s, _ := settingByKey(key)
		if s == nil {
			unknown = append(unknown, key)
			continue
		}
		if string(raw) == "null" {
			if s.has(nullResets) && chosen[s] {
				s.reset(c)
			}
			continue
		}
		texts, err := s.fromJSON(raw)
		if err == nil {
			alone := Config{}
			err = s.set(&alone, texts)
			alone = alone.WithDefaults()
			if err == nil && (chosen[s] || !reflect.DeepEqual(s.toJSON(&alone), s.toJSON(&defaults))) {
				chosen[s] = true
				err = s.set(c, texts)
			}
		}
		if err != nil {
			start += int64(bytes.Index(text[start:], raw))
			return nil, at(start, s.wrap(err))
		}
	}
	return unknown, nil
}

// plainText removes the mark that some editors put before UTF-8, and says so if
// a file is in another encoding that they know.
func plainText(text []byte) ([]byte, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	if len(text) >= 2 && (text[0] == 0xfe && text[1] == 0xff || text[0] == 0xff && text[1] == 0xfe || text[0] == 0 || text[1] == 0) {
		return nil, errors.New("the file is in UTF-16: save it as UTF-8")
	}
	return text, nil
}

// withoutCharacter takes the character out of a message about JSON's syntax: it
// may be one of a password's.
func withoutCharacter(message string) string {
	if rest, ok := strings.CutPrefix(message, "invalid character "); ok {
		if i := strings.Index(rest, "' "); i >= 0 {
			return "invalid character " + rest[i+2:]
		}
	}
	return message
}

// position turns an offset into a line and a column, both counted from 1.
func position(text []byte, offset int64) (line, column int) {
	before := text[:min(max(offset, 0), int64(len(text)))]
	line = 1 + bytes.Count(before, []byte("\n"))
	column = len(before) - bytes.LastIndexByte(before, '\n')
	return line, column
}
