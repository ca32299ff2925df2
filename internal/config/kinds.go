package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// value is the typed half of a setting, as code sees it that handles all
// settings alike. *typed is its only implementation.
type value interface {
	// set stores what a user wrote. Several texts come from a repeated flag.
	set(c *Config, texts []string) error
	// reset stores the zero value, which means the default.
	reset(c *Config)
	// copy stores the value of another configuration.
	copy(to, from *Config)
	// fill stores the default if the field is zero.
	fill(c *Config)
	// check reports what is wrong with the filled field.
	check(c *Config) error
	// fromJSON turns the file's value into the texts that set takes.
	fromJSON(raw json.RawMessage) ([]string, error)
	// toJSON returns the filled field for the file.
	toJSON(c *Config) any
	// schema returns the JSON Schema of the file's value, without description and default.
	schema() map[string]any
	// bounds returns the permitted values in words, for the documentation.
	bounds() string
	// names returns the only permitted values if they are a few words; nil if they are not.
	names() []string
	// kind reports how the value is written.
	kind() kind
	// hasEmpty reports whether an empty text is a value of its own.
	hasEmpty() bool
}

// kind is how a value is written: which texts, and which type in the file.
type kind uint8

const (
	ofText     kind = iota // one text; of a repeated flag the last one counts
	ofNumber               // a whole number
	ofDuration             // a duration, or a whole number of milliseconds
	onOff                  // a switch: its flag takes no argument
	several                // any number of texts
)

// span is the range of a number or duration as users write it, for the schema and the
// documentation. The check of the value itself is typed.valid.
type span struct {
	low, high     int64 // of a duration in milliseconds
	noLow, noHigh bool  // any lower or higher value is accepted, too
	text          func(int64) string
}

// typed is a value of type T: the field of Config that holds it, its default,
// and the functions of its kind. A kind is a constructor below; options refine
// it.
//
// In Config the zero T always means the default, so that Config{} is complete.
// What a user means by an explicit zero (0, an empty text) is a choice of each
// setting: the default, a mistake, or zero, which is that meaning in Config.
type typed[T any] struct {
	at   func(*Config) *T
	def  T
	zero T     // what a user's zero is in Config; the zero T: the default
	err  error // a user's zero is this mistake
	as   kind

	strings bool     // made of strings, so that an empty text is a value
	choices []string // the only values; nil: no such list
	span    span

	parse  func(texts []string) (T, error)
	source func(raw json.RawMessage) ([]string, error)
	format func(T) any   // for the file
	valid  func(T) error // of a filled value; nil: any will do
}

// option refines a setting's kind.
type option[T any] func(*typed[T])

// zeroIs makes a user's zero mean v, which a user cannot write otherwise.
func zeroIs[T any](v T) option[T] { return func(t *typed[T]) { t.zero, t.err = v, nil } }

// zeroIsWrong makes a user's zero a mistake.
func zeroIsWrong[T any](t *typed[T]) {
	t.err = fmt.Errorf("must not be empty: leave it out for the default (%v)", t.def)
}

// zeroIsDefault makes a user's zero mean the default.
func zeroIsDefault[T any](t *typed[T]) { t.err = nil }

// valid adds a check that comes after those of the kind.
func valid[T any](check func(T) error) option[T] {
	return func(t *typed[T]) {
		kind := t.valid
		t.valid = func(v T) error {
			if kind != nil {
				if err := kind(v); err != nil {
					return err
				}
			}
			return check(v)
		}
	}
}

// choice accepts only the given values.
func choice[T ~string](values ...string) option[T] {
	check := valid(func(v T) error {
		if slices.Contains(values, string(v)) {
			return nil
		}
		return fmt.Errorf("%s is unknown: choose %s", show(string(v)), strings.Join(values, " or "))
	})
	return func(t *typed[T]) {
		t.choices = values
		check(t)
	}
}

// read adjusts what a user wrote before anything else is done with it.
func read[T any](adjust func(T) T) option[T] {
	return func(t *typed[T]) {
		kind := t.parse
		t.parse = func(texts []string) (T, error) {
			v, err := kind(texts)
			if err != nil {
				return v, err
			}
			return adjust(v), nil
		}
	}
}

// atLeast and atMost take a number beyond a bound for the bound itself.
func atLeast(low int) option[int] {
	adjust := read(func(v int) int { return max(v, low) })
	return func(t *typed[int]) { adjust(t); t.span.noLow = true }
}

func atMost(high int) option[int] {
	adjust := read(func(v int) int { return min(v, high) })
	return func(t *typed[int]) { adjust(t); t.span.noHigh = true }
}

func (t *typed[T]) set(c *Config, texts []string) error {
	v, err := t.parse(texts)
	if err != nil {
		return err
	}
	if isZero(v) {
		if t.err != nil {
			return t.err
		}
		v = t.zero
	}
	*t.at(c) = v
	return nil
}

func (t *typed[T]) reset(c *Config) {
	var zero T
	*t.at(c) = zero
}

func (t *typed[T]) copy(to, from *Config) { *t.at(to) = *t.at(from) }

func (t *typed[T]) fill(c *Config) {
	if isZero(*t.at(c)) {
		*t.at(c) = t.def
	}
}

func (t *typed[T]) check(c *Config) error {
	v := *t.at(c)
	if t.valid == nil || isZero(v) || t.isZeroMeaning(v) { // zero with no default: off
		return nil
	}
	return t.valid(v)
}

func (t *typed[T]) fromJSON(raw json.RawMessage) ([]string, error) { return t.source(raw) }
func (t *typed[T]) toJSON(c *Config) any                           { return t.format(*t.at(c)) }
func (t *typed[T]) names() []string                                { return t.choices }
func (t *typed[T]) kind() kind                                     { return t.as }
func (t *typed[T]) hasEmpty() bool                                 { return t.strings }

// isZeroMeaning reports whether v is what a user writes as zero.
func (t *typed[T]) isZeroMeaning(v T) bool {
	return !isZero(t.zero) && reflect.DeepEqual(v, t.zero)
}

func isZero[T any](v T) bool { return reflect.ValueOf(&v).Elem().IsZero() }

// last is the text that counts if a setting has one value.
func last(texts []string) string { return texts[len(texts)-1] }

// text is a string setting.
func text[T ~string](at func(*Config) *T, def T, options ...option[T]) *typed[T] {
	t := &typed[T]{at: at, def: def, strings: true}
	t.parse = func(texts []string) (T, error) { return T(last(texts)), nil }
	t.source = func(raw json.RawMessage) ([]string, error) {
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return nil, errors.New("must be a string")
		}
		return []string{s}, nil
	}
	// What is off is written as null, as Resgate does.
	t.format = func(v T) any {
		switch {
		case v == "":
			return nil
		case v == t.zero:
			return ""
		}
		return string(v)
	}
	return t.refine(options)
}

// joinedBy joins the texts of a repeated flag to one.
func joinedBy(separator string) option[string] {
	return func(t *typed[string]) {
		t.parse = func(texts []string) (string, error) { return strings.Join(texts, separator), nil }
	}
}

// number is a whole number within bounds. If the lower bound is above zero, a
// user's zero is a mistake unless an option gives it a meaning.
func number(at func(*Config) *int, def, low, high int, options ...option[int]) *typed[int] {
	t := &typed[int]{at: at, def: def, as: ofNumber}
	t.span = span{low: int64(low), high: int64(high), noHigh: high == math.MaxInt, text: func(v int64) string { return strconv.FormatInt(v, 10) }}
	if low > 0 {
		t.err = fmt.Errorf("must be at least %d; leave it out for the default (%d)", low, def)
	}
	t.parse = func(texts []string) (int, error) {
		n, err := strconv.ParseInt(last(texts), 0, strconv.IntSize) // 0x50 and 8_080 are numbers for Resgate's flags
		v := int(n)
		switch {
		case err != nil:
			return 0, fmt.Errorf("%s is not a whole number", show(last(texts)))
		case v < 0 && t.zero < 0:
			return 0, fmt.Errorf("%d is out of bounds: choose from %d to %d, or 0 for none", v, low, high)
		}
		return v, nil
	}
	t.source = func(raw json.RawMessage) ([]string, error) {
		var v int
		if json.Unmarshal(raw, &v) != nil {
			return nil, errors.New("must be a whole number")
		}
		return []string{strconv.Itoa(v)}, nil
	}
	t.format = func(v int) any {
		if t.isZeroMeaning(v) {
			return 0
		}
		return v
	}
	t.valid = func(v int) error {
		if v < low || v > high {
			return fmt.Errorf("%d is out of bounds: choose from %d to %d", v, low, high)
		}
		return nil
	}
	return t.refine(options)
}

// duration is a time within bounds, written like 30s or 1m30s; a bare number is
// milliseconds. A user's zero is a mistake unless an option gives it a meaning.
func duration(at func(*Config) *time.Duration, def, low, high time.Duration, options ...option[time.Duration]) *typed[time.Duration] {
	t := &typed[time.Duration]{at: at, def: def, as: ofDuration}
	t.span = span{low: low.Milliseconds(), high: high.Milliseconds(), text: func(v int64) string { return brief(time.Duration(v) * time.Millisecond) }}
	t.err = fmt.Errorf("must be at least %s; leave it out for the default (%s)", brief(low), brief(def))
	t.parse = func(texts []string) (time.Duration, error) {
		s := last(texts)
		v, err := time.ParseDuration(s)
		if ms, numErr := strconv.ParseInt(s, 0, 64); numErr == nil {
			// Beyond the bounds any value will do, but it must not overflow.
			ms = min(max(ms, -1), high.Milliseconds()+1)
			v, err = time.Duration(ms)*time.Millisecond, nil
		}
		switch {
		case err != nil:
			return 0, fmt.Errorf("%s is not a duration: write it like 30s, or as milliseconds", show(s))
		case v < 0:
			return 0, fmt.Errorf("%s is negative: choose from %s to %s", show(s), brief(low), brief(high))
		}
		return v, nil
	}
	t.source = func(raw json.RawMessage) ([]string, error) {
		var s string
		if json.Unmarshal(raw, &s) == nil {
			return []string{s}, nil
		}
		var ms int64
		if json.Unmarshal(raw, &ms) != nil {
			return nil, errors.New(`must be a duration like "30s", or a number of milliseconds`)
		}
		return []string{strconv.FormatInt(ms, 10)}, nil
	}
	t.format = func(v time.Duration) any { return brief(max(v, 0)) }
	t.valid = func(v time.Duration) error {
		if v < low || v > high {
			return fmt.Errorf("%s is out of bounds: choose from %s to %s", brief(v), brief(low), brief(high))
		}
		return nil
	}
	return t.refine(options)
}

// longest takes a longer time for the bound itself.
func longest(high time.Duration) option[time.Duration] {
	adjust := read(func(v time.Duration) time.Duration { return min(v, high) })
	return func(t *typed[time.Duration]) { adjust(t); t.span.noHigh = true }
}

// inMilliseconds writes a duration to the file as a number.
func inMilliseconds(t *typed[time.Duration]) {
	t.format = func(v time.Duration) any { return max(v, 0).Milliseconds() }
}

// toggle is a switch, off by default.
func toggle(at func(*Config) *bool) *typed[bool] {
	return &typed[bool]{
		at: at,
		as: onOff,
		parse: func(texts []string) (bool, error) {
			v, err := strconv.ParseBool(last(texts))
			if err != nil {
				return false, fmt.Errorf("%s is neither true nor false", show(last(texts)))
			}
			return v, nil
		},
		source: func(raw json.RawMessage) ([]string, error) {
			var v bool
			if json.Unmarshal(raw, &v) != nil {
				return nil, errors.New("must be true or false")
			}
			return []string{strconv.FormatBool(v)}, nil
		},
		format: func(v bool) any { return v },
	}
}

// list is several strings: a JSON array, a repeated flag, or an environment
// variable with the strings separated by semicolons. check is called with each;
// nil: any will do.
func list(at func(*Config) *[]string, check func(string) error) *typed[[]string] {
	t := &typed[[]string]{
		at:      at,
		as:      several,
		strings: true,
		parse:   func(texts []string) ([]string, error) { return slices.Clone(texts), nil },
		source: func(raw json.RawMessage) ([]string, error) {
			var all []string
			if json.Unmarshal(raw, &all) != nil {
				return nil, errors.New("must be an array of strings")
			}
			return all, nil
		},
		format: func(all []string) any {
			if all == nil {
				return []string{}
			}
			return all
		},
	}
	if check != nil {
		t.valid = func(all []string) error {
			var errs []error
			for _, s := range all {
				errs = append(errs, check(s))
			}
			return errors.Join(errs...)
		}
	}
	return t
}

func (t *typed[T]) refine(options []option[T]) *typed[T] {
	for _, o := range options {
		o(t)
	}
	return t
}

// brief omits the zeros that Duration.String puts at the end: 1m, not 1m0s.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
