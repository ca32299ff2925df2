package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// commandLine is a command line taken apart.
type commandLine struct {
	texts         map[*setting][]string // what flags were given, in order
	config        string
	help, version bool
	strict        bool
	debugTrace    bool   // -DV: both, whatever else is said of them
	ignored       int    // arguments after the flags, which are not read
	meant         string // the command that the first of them is probably meant for
}

// parseFlags takes a command line apart by the rules of Go's package flag, which
// are Resgate's: one dash or two, -name value or -name=value, a switch takes its
// value only after =, and what is no flag ends the flags. It is our own because
// no message may quote an argument, which can be a part of a URL with a
// credential.
func parseFlags(args []string) (commandLine, error) {
	line := commandLine{texts: map[*setting][]string{}}
	for at := 0; at < len(args); at++ {
		name, attached, isFlag := cutFlag(args[at])
		if !isFlag {
			line.ignored, line.meant = len(args)-at, nearestCommand(args[at])
			break
		}
		if name == "" { // "--": the end of the flags
			line.ignored = len(args) - at - 1
			break
		}
		s, common := settingByFlag(name), commonFlags[name]
		switch {
		case s == nil && common == nil:
			return line, unknownFlag(name, at)
		case attached != nil:
		case s != nil && s.kind() == onOff || common != nil && common.toggle:
			attached = &on
		case at+1 == len(args):
			return line, fmt.Errorf("flag needs an argument: --%s", name)
		default:
			at++
			attached = &args[at]
		}
		if s != nil {
			line.texts[s] = append(line.texts[s], *attached)
		} else if err := common.apply(&line, *attached); err != nil {
			return line, fmt.Errorf("--%s: %w", name, err)
		}
	}
	if line.debugTrace {
		for _, key := range []string{"debug", "trace"} {
			s, _ := settingByKey(key)
			line.texts[s] = []string{on}
		}
	}
	return line, nil
}

// on is the value of a switch that is given without one.
var on = "true"

// cutFlag splits an argument into a flag's name and the value after =, nil if
// there is none. "--" has no name; false for an argument that is no flag.
func cutFlag(arg string) (name string, value *string, isFlag bool) {
	body, isFlag := strings.CutPrefix(arg, "-")
	if !isFlag || body == "" {
		return "", nil, false
	}
	body = strings.TrimPrefix(body, "-")
	if name, after, ok := strings.Cut(body, "="); ok {
		if name == "" {
			name = "=" // a mistake, not the end of the flags
		}
		return name, &after, true
	}
	return body, nil, true
}

// commonFlag is a flag that stands for no setting.
type commonFlag struct {
	toggle bool
	apply  func(line *commandLine, text string) error
}

var commonFlags = func() map[string]*commonFlag {
	toggle := func(at func(*commandLine) *bool) *commonFlag {
		return &commonFlag{toggle: true, apply: func(line *commandLine, text string) error {
			v, err := strconv.ParseBool(text)
			if err != nil {
				return errors.New("the value is neither true nor false")
			}
			*at(line) = v
			return nil
		}}
	}
	help := toggle(func(l *commandLine) *bool { return &l.help })
	version := toggle(func(l *commandLine) *bool { return &l.version })
	strict := toggle(func(l *commandLine) *bool { return &l.strict })
	file := &commonFlag{apply: func(line *commandLine, text string) error {
		line.config = text
		return nil
	}}
	debugTrace := &commonFlag{toggle: true, apply: func(line *commandLine, text string) error {
		if _, err := strconv.ParseBool(text); err != nil {
			return errors.New("the value is neither true nor false")
		}
		line.debugTrace = true // whatever the value: Resgate reads it so
		return nil
	}}
	return map[string]*commonFlag{
		"h": help, "help": help, "v": version, "version": version, "c": file, "config": file, "DV": debugTrace, "strict": strict,
	}
}()

// unknownFlag is the error about a flag that does not exist. Of an argument that does not look like
// a flag only the position is shown: it may be the rest of a credential.
func unknownFlag(name string, at int) error {
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' || len(name) > 40 {
			return fmt.Errorf("unknown flag: argument %d (not shown, it may be secret)", at+1)
		}
	}
	if near := nearestFlag(name); near != "" {
		return fmt.Errorf("unknown flag: --%s: did you mean --%s?", name, near)
	}
	return fmt.Errorf("unknown flag: --%s", name)
}
