package config

import (
	"slices"
	"strings"
)

// command is a word that may stand first on the command line. Help, manual pages and completions
// follow from the table below; cmd/sluice does what the words ask for.
type command struct {
	name  string   // empty: the gateway itself
	args  string   // what may follow, as the help shows it
	words []string // what may follow if these are not the settings' flags
	help  string
}

// commands is the table, in the order of the help.
var commands = []command{
	{args: options, help: "run the gateway"},
	{name: "demo", args: options, help: "run a gateway with a demo service and its page"},
	{name: "relay", args: options, help: "run a relay between the services' NATS server (--nats) and that of gateways (--downstream)"},
	{name: "check", args: "[relay] " + options, help: "print the effective configuration, of a relay with that word, and what is wrong with it"},
	{name: "health", args: options, help: "ask the gateway with these settings whether it is healthy"},
	{name: "config", args: "[--schema]", words: []string{"--schema"}, help: "print a configuration file with the defaults, or its JSON Schema"},
	{name: "top", args: "[-url URL] [-token-file FILE]", words: adminFlags, help: "show in the terminal what a running gateway is doing"},
	{name: "trace", args: "-cid CID|-resource PATTERN [-url URL]", words: append(adminFlags[:len(adminFlags):len(adminFlags)], "-cid", "-resource", "-seconds", "-rate", "-bytes", "-json"), help: "show the messages of a connection, or about resources, as they pass"},
	{name: "bundle", args: "[-url URL] [-token-file FILE] [-o FILE]", words: adminFlags, help: "collect what a bug report needs from a running gateway's admin port"},
	{name: "upgrade", args: "[--check] [options]", words: []string{"--check"}, help: "have a new process take over from the gateway with these settings"},
	{name: "reload", args: options, help: "what systemctl reload runs: an upgrade with upgradeSocket, else SIGHUP"},
	{name: "takeover", args: options, help: "run the gateway in place of the one with these settings, which ends; without one, run it"},
	{name: "init", args: options, help: "run the gateway as the child of the first process of a container, where it can be upgraded"},
	{name: "service", args: "new NAME", words: []string{"new"}, help: "write a small service to begin with, in Go, Node or Python"},
	{name: "completion", args: "bash|zsh|fish", words: shells, help: "print the completions for a shell"},
	{name: "man", args: "[1|5]", words: sections, help: "print the manual page of the program (1) or of its file (5)"},
}

// adminFlags are the flags of the commands that ask the admin port.
var adminFlags = []string{"-url", "-token-file", "-ca", "-cert", "-key"}

// options is what a command has as args that takes the settings' flags.
const options = "[options]"

// synopsis returns how the command is written.
func (c *command) synopsis() string {
	return strings.Join(slices.DeleteFunc([]string{"sluice", c.name, c.args}, func(s string) bool { return s == "" }), " ")
}

// commonOption is a flag that stands for no setting, as the help shows it.
type commonOption struct{ short, flag, arg, help string }

var commonOptions = []commonOption{
	{"c", "config", "file", "configuration file, JSON, or YAML if it ends in .yaml or .yml; written if missing"},
	{"", "strict", "", "take unknown keys, variables and arguments for errors"},
	{"h", "help", "", "show the help"},
	{"v", "version", "", "show the version"},
}
