package config

import (
	"fmt"
	"strings"
)

// setting is one row of the configuration's table: its names in the file, on the command line and
// in the environment, its value, and its traits. Everything that reads, checks, reloads, prints or
// documents a configuration iterates over this one table.
type setting struct {
	key     string  // in the file; the environment variable follows from it
	aliases []alias // further keys in the file
	flag    string  // long flag; empty: none
	short   string  // one-letter flag
	arg     string  // what the help shows for the value; empty for a switch
	group   string  // heading in the help
	help    string  // one line
	more    string  // sentences for the documentation only: when to change it
	value
	traits traits
}

// alias is another key of a setting in the file.
type alias struct {
	key        string
	deprecated bool // still accepted; `sluice check` notes the key to use instead
}

// traits are the flags of a row.
type traits uint8

const (
	// secretValue: the value is of a type of package secret, and may contain credentials. It is
	// printed through its String method only, which redacts.
	secretValue traits = 1 << iota
	// reloadable: a reload applies a new value to the running gateway. Without it a new value is
	// reported as one that needs a restart. A test of package gateway demands a case for each such
	// row, which proves that everything that reads the field has the new value.
	reloadable
	// zeroFlagIsNone: a flag of 0 counts as not given, as with Resgate. The environment's or the
	// file's value stays.
	zeroFlagIsNone
	// nullResets: a null in the file cancels an earlier value of the same key, as with Resgate.
	nullResets
)

// has reports whether the row has a trait.
func (s *setting) has(t traits) bool { return s.traits&t != 0 }

// wrap prefixes an error with the setting's key.
func (s *setting) wrap(err error) error { return fmt.Errorf("%s: %w", s.key, err) }

// env returns the setting's environment variable: natsRootCAs is SLUICE_NATS_ROOT_CAS.
func (s *setting) env() string {
	var b strings.Builder
	b.WriteString(envPrefix)
	lower := false
	for i, r := range s.key {
		upper := r >= 'A' && r <= 'Z'
		if upper && lower && i > 0 {
			b.WriteByte('_')
		}
		lower = !upper
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String())
}

// settingByKey returns the setting with a key or alias in the file, and the alias if it is one; nil
// if there is none. Keys are compared without regard to case, as with Resgate.
func settingByKey(key string) (*setting, *alias) {
	for i := range settings {
		s := &settings[i]
		if strings.EqualFold(s.key, key) {
			return s, nil
		}
		for j := range s.aliases {
			if strings.EqualFold(s.aliases[j].key, key) {
				return s, &s.aliases[j]
			}
		}
	}
	return nil, nil
}

// settingByFlag returns the setting with a long or short flag; nil if there is none.
func settingByFlag(name string) *setting {
	for i := range settings {
		if s := &settings[i]; s.flag != "" && (s.flag == name || s.short == name) {
			return s
		}
	}
	return nil
}
