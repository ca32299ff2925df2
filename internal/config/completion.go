package config

import (
	"fmt"
	"strings"
)

// The shells that Completion knows.
var shells = []string{"bash", "zsh", "fish"}

// Completion returns the completions of the command line for a shell: commands, flags, and the
// values of flags that have only a few. It is nil for other shells than bash, zsh and fish.
func Completion(shell string) []byte {
	switch shell {
	case "bash":
		return bashCompletion()
	case "zsh":
		return zshCompletion()
	case "fish":
		return fishCompletion()
	}
	return nil
}

// completed is a flag as completions need it.
type completed struct {
	short, flag, arg string
	help             string
	values           []string // the only values; nil: any
}

// isFile reports whether the value is a file's name.
func (c *completed) isFile() bool { return c.arg == "file" }

func completedFlags() (all []completed) {
	for _, o := range commonOptions {
		all = append(all, completed{o.short, o.flag, o.arg, o.help, nil})
	}
	for i := range settings {
		if s := &settings[i]; s.flag != "" {
			all = append(all, completed{s.short, s.flag, s.arg, s.help, s.names()})
		}
	}
	return all
}

// bashCompletion needs nothing but bash itself.
func bashCompletion() []byte {
	var b strings.Builder
	var names, flags, files, others []string
	for _, c := range commands {
		if c.name != "" {
			names = append(names, c.name)
		}
	}
	b.WriteString("# bash completion of sluice; \"sluice completion bash\" prints it.\n_sluice() {\n" +
		"\tlocal word=${COMP_WORDS[COMP_CWORD]} last=${COMP_WORDS[COMP_CWORD-1]}\n\tCOMPREPLY=()\n\tcase $last in\n")
	for _, f := range completedFlags() {
		flags = append(flags, "--"+f.flag)
		pattern := "--" + f.flag
		if f.short != "" {
			pattern += "|-" + f.short
		}
		switch {
		case f.isFile():
			files = append(files, pattern)
		case f.values != nil:
			fmt.Fprintf(&b, "\t%s) COMPREPLY=($(compgen -W '%s' -- \"$word\")); return ;;\n", pattern, strings.Join(f.values, " "))
		case f.arg != "":
			others = append(others, pattern)
		}
	}
	fmt.Fprintf(&b, "\t%s) COMPREPLY=($(compgen -f -- \"$word\")); return ;;\n", strings.Join(files, "|"))
	fmt.Fprintf(&b, "\t%s) return ;;\n\tesac\n\tcase ${COMP_WORDS[1]} in\n", strings.Join(others, "|"))
	for _, c := range commands {
		if c.words != nil {
			fmt.Fprintf(&b, "\t%s) [ \"$COMP_CWORD\" = 2 ] && COMPREPLY=($(compgen -W '%s' -- \"$word\")); [ \"$COMP_CWORD\" -gt 1 ] && return ;;\n", c.name, strings.Join(c.words, " "))
		}
	}
	fmt.Fprintf(&b, "\tesac\n\tlocal words='%s'\n\t[ \"$COMP_CWORD\" = 1 ] && words=\"$words %s\"\n\tCOMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\ncomplete -o filenames -F _sluice sluice\n",
		strings.Join(flags, " "), strings.Join(names, " "))
	return []byte(b.String())
}

func zshCompletion() []byte {
	var b strings.Builder
	b.WriteString("#compdef sluice\n# zsh completion of sluice; \"sluice completion zsh\" prints it.\n_sluice() {\n\tlocal -a commands options\n\tcommands=(\n")
	for _, c := range commands {
		if c.name != "" {
			fmt.Fprintf(&b, "\t\t'%s:%s'\n", c.name, c.help)
		}
	}
	b.WriteString("\t)\n\toptions=(\n")
	for _, f := range completedFlags() {
		action := ""
		switch {
		case f.isFile():
			action = ":file:_files"
		case f.values != nil:
			action = ":" + f.arg + ":(" + strings.Join(f.values, " ") + ")"
		case f.arg != "":
			action = ":" + f.arg + ": "
		}
		help := zshText(f.help)
		fmt.Fprintf(&b, "\t\t'*--%s[%s]%s'\n", f.flag, help, action)
		if f.short != "" {
			fmt.Fprintf(&b, "\t\t'*-%s[%s]%s'\n", f.short, help, action)
		}
	}
	b.WriteString("\t)\n\tcase $words[2] in\n")
	for _, c := range commands {
		if c.words != nil {
			fmt.Fprintf(&b, "\t%s) (( CURRENT == 3 )) && compadd -- %s; (( CURRENT > 2 )) && return ;;\n", c.name, strings.Join(c.words, " "))
		}
	}
	b.WriteString("\tesac\n\t(( CURRENT == 2 )) && _describe command commands\n\t_arguments -S $options '*: :'\n}\n" +
		"if [ \"$funcstack[1]\" = _sluice ]; then _sluice \"$@\"; else compdef _sluice sluice; fi\n")
	return []byte(b.String())
}

// zshText escapes a description within quotes and brackets.
func zshText(text string) string {
	return strings.NewReplacer(`'`, `'\''`, `[`, `\[`, `]`, `\]`, `:`, `\:`).Replace(text)
}

func fishCompletion() []byte {
	var b strings.Builder
	quote := func(text string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
	}
	b.WriteString("# fish completion of sluice; \"sluice completion fish\" prints it.\ncomplete -c sluice -f\n")
	without := ""
	for _, c := range commands {
		if c.name == "" {
			continue
		}
		fmt.Fprintf(&b, "complete -c sluice -n __fish_use_subcommand -a %s -d %s\n", c.name, quote(c.help))
		if c.words != nil {
			fmt.Fprintf(&b, "complete -c sluice -n '__fish_seen_subcommand_from %s' -a '%s'\n", c.name, strings.Join(c.words, " "))
			without += " " + c.name
		}
	}
	for _, f := range completedFlags() {
		fmt.Fprintf(&b, "complete -c sluice -n 'not __fish_seen_subcommand_from%s' -l %s", without, f.flag)
		if f.short != "" {
			b.WriteString(" -s " + f.short)
		}
		switch {
		case f.isFile():
			b.WriteString(" -r -F")
		case f.values != nil:
			b.WriteString(" -x -a " + quote(strings.Join(f.values, " ")))
		case f.arg != "":
			b.WriteString(" -x")
		}
		fmt.Fprintf(&b, " -d %s\n", quote(f.help))
	}
	return []byte(b.String())
}
