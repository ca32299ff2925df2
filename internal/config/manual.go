package config

import (
	"fmt"
	"strings"
)

// The sections of the manual that have a page about Sluice: commands, and file formats.
var sections = []string{"1", "5"}

// Manual returns the page sluice(1) for section "1", sluice.yaml(5) for "5", and nil for others.
// The pages use the macros of man(7). They contain no date, so that every build has the same.
func Manual(section, version string) []byte {
	p := page{}
	switch section {
	case "1":
		p.program(version)
	case "5":
		p.file(version)
	default:
		return nil
	}
	return []byte(p.b.String())
}

// page is a manual page that is being written.
type page struct{ b strings.Builder }

// macro writes a request with arguments, each of which is text.
func (p *page) macro(name string, args ...string) {
	p.b.WriteString("." + name)
	for _, a := range args {
		p.b.WriteString(` "` + strings.ReplaceAll(roff(a), `"`, `\(dq`) + `"`)
	}
	p.b.WriteByte('\n')
}

// text writes paragraphs of text, which are separated by empty lines.
func (p *page) text(paragraphs string) {
	for i, text := range strings.Split(strings.TrimSpace(paragraphs), "\n\n") {
		if i > 0 {
			p.macro("PP")
		}
		for line := range strings.Lines(text + "\n") {
			p.line(line)
		}
	}
}

func (p *page) line(text string) { p.b.WriteString(roff(strings.TrimSpace(text)) + "\n") }

// item writes a term, in bold, and what is said of it.
func (p *page) item(term, text string) {
	p.macro("TP")
	p.macro("B", term)
	p.line(text)
}

// code writes lines as they are.
func (p *page) code(lines string) {
	p.macro("RS", "4")
	p.macro("nf")
	for line := range strings.Lines(strings.TrimSpace(lines) + "\n") {
		p.b.WriteString(roff(strings.TrimRight(line, "\n")) + "\n")
	}
	p.macro("fi")
	p.macro("RE")
}

// roff escapes text. A hyphen becomes a minus sign, as flags and file names have it.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `–`, `\(en`, `…`, `\&...`, `µ`, `\(mc`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

func (p *page) begin(name, section, version, what string) {
	p.b.WriteString(".\\\" \"sluice man\" prints this page; it follows from the table of settings.\n")
	p.macro("TH", strings.ToUpper(name), section, "", "Sluice "+version, "Sluice")
	p.macro("SH", "NAME")
	p.line(name + " - " + what)
}

// program writes sluice(1).
func (p *page) program(version string) {
	p.begin("sluice", "1", version, "realtime API gateway for the RES protocol")
	p.macro("SH", "SYNOPSIS")
	for i := range commands {
		if i > 0 {
			p.macro("br")
		}
		p.macro("B", commands[i].synopsis())
	}
	p.macro("SH", "DESCRIPTION")
	p.text(`
Sluice serves the resources of services on NATS to clients by WebSocket, HTTP and server-sent events, and keeps what clients have up to date.
It accepts the configuration file and the command line of Resgate.

Every setting can be a flag, an environment variable or a key of the configuration file. Flags win over variables, variables over the file,
the file over the defaults. Durations are written like 30s or 1m30s; a bare number is milliseconds.`)
	p.macro("SH", "COMMANDS")
	for i := range commands {
		p.item(commands[i].synopsis(), upperFirst(commands[i].help)+".")
	}
	p.macro("SH", "OPTIONS")
	for _, o := range commonOptions {
		p.item(flagsOf(o.short, o.flag, o.arg), upperFirst(o.help)+".")
	}
	defaults := Config{}.WithDefaults()
	group := ""
	for i := range settings {
		s := &settings[i]
		if s.flag == "" {
			continue
		}
		if s.group != group {
			group = s.group
			p.macro("SS", group)
		}
		p.item(flagsOf(s.short, s.flag, s.arg), upperFirst(s.help)+s.defaultNote(&defaults)+".")
	}
	p.macro("SH", "ENVIRONMENT")
	p.item(envConfig, "Names the configuration file, as --config does.")
	p.item(envPrefix+"…", "A setting: its key in capitals, words separated by underscores. natsUrl is SLUICE_NATS_URL.")
	p.item("NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS", "Set by systemd: notifications, watchdog and passed sockets.")
	p.macro("SH", "SIGNALS")
	p.item("SIGTERM, SIGINT", "Stop: health checks fail for shutdownDelay, clients are closed over drainTimeout. A second signal ends the process immediately.")
	p.item("SIGHUP", "Read the settings again, and apply those that can change while the gateway runs.")
	p.item("SIGUSR2", "Have a new process take over, as sluice upgrade does.")
	p.macro("SH", "EXIT STATUS")
	p.item("0", "A stop that was asked for, or a check without a mistake.")
	p.item("1", "NATS cannot be reached, the gateway fails, or a second signal ended a stop.")
	p.item("2", "The settings are wrong.")
	p.macro("SH", "EXAMPLES")
	p.code("sluice demo\nsluice --nats nats://10.0.0.5:4222 --port 8080\nsluice check --config /etc/sluice/sluice.yaml")
	p.macro("SH", "SEE ALSO")
	p.line("sluice.yaml(5), systemctl(1)")
}

// file writes sluice.yaml(5).
func (p *page) file(version string) {
	p.begin("sluice.yaml", "5", version, "configuration file of sluice")
	p.macro("SH", "DESCRIPTION")
	p.text(`
The file that --config or ` + envConfig + ` names is YAML if its name ends in .yaml or .yml, else JSON. It has one level of keys, all of which
may be absent. Flags and environment variables win over it. "sluice config" prints a file with all settings at their defaults,
"sluice config --schema" its JSON Schema, and "sluice check --config FILE" checks a file.

Settings that a reload applies take effect by SIGHUP; the others need an upgrade or a restart.`)
	p.macro("SH", "SETTINGS")
	defaults := Config{}.WithDefaults()
	group := ""
	for i := range settings {
		s := &settings[i]
		if s.group != group {
			group = s.group
			p.macro("SS", group)
		}
		p.item(fmt.Sprintf("%s: %s", s.key, s.shown(&defaults)), s.description())
		names := s.bounds() + "; " + s.env()
		if s.flag != "" {
			names += ", --" + s.flag
		}
		if s.has(reloadable) {
			names += "; a reload applies it"
		}
		p.line("(" + names + ")")
	}
	p.macro("SH", "EXAMPLE")
	p.code("natsUrl: nats://10.0.0.5:4222\nport: 8080\nallowOrigin: https://example.com\ntrustForwardedFrom: [10.0.0.0/8]")
	p.macro("SH", "SEE ALSO")
	p.line("sluice(1)")
}

// flagsOf returns a flag as the manual shows it.
func flagsOf(short, flag, arg string) string {
	text := "--" + flag
	if short != "" {
		text = "-" + short + ", " + text
	}
	if arg != "" {
		text += " <" + arg + ">"
	}
	return text
}
