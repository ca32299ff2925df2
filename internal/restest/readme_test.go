package restest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"sluice/gateway"
	"sluice/internal/demo"
	"sluice/internal/secret"
	"sluice/internal/testkit"
)

// readmeHost is what the README calls the gateway of "make demo".
const readmeHost = "http://localhost:8080"

// TestReadmeOverHTTP runs the examples of the README's section about HTTP against the demo: each
// curl command, with what the comments below it promise, and what the page's example fetches.
// Without curl, net/http sends the same requests.
func TestReadmeOverHTTP(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	section := chapter(string(readme), "Use it over HTTP")
	base := startDemo(t)
	run := runCurl
	if _, err := exec.LookPath("curl"); err != nil {
		t.Log("no curl here: net/http does it")
		run = runHTTP
	}
	examples := curlExamples(t, fences(section, "sh"))
	for _, e := range examples {
		t.Run(e.command, func(t *testing.T) { e.check(t, run, base) })
	}
	pages := regexp.MustCompile(`(fetch|EventSource)\('([^']*)'`).FindAllStringSubmatch(fences(section, "js"), -1)
	for _, m := range pages {
		t.Run(m[1]+" "+m[2], func(t *testing.T) { fetches(t, base, m[1], m[2]) })
	}
	if len(examples) < 5 || len(pages) < 2 {
		t.Errorf("only %d commands and %d fetches found: is the section still there?", len(examples), len(pages))
	}
}

// startDemo runs a gateway with the demo's service and returns its address.
func startDemo(t *testing.T) string {
	ns := startNATS(t)
	g, err := startGateway(Start{NATS: ns.ClientURL(), Log: slog.New(slog.DiscardHandler)}, func(*gateway.Config) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	d, err := demo.New(demo.Options{URL: secret.URLs(ns.ClientURL())})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	return "http" + strings.TrimSuffix(strings.TrimPrefix(g.URL(), "ws"), "/")
}

// chapter returns the text below a heading of the second level.
func chapter(text, title string) string {
	_, text, _ = strings.Cut(text, "\n## "+title+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// fences returns the contents of the fenced blocks of one language.
func fences(text, language string) string {
	var all strings.Builder
	for _, m := range regexp.MustCompile("(?s)```"+language+"(?: [^\n]*)?\n(.*?)```").FindAllStringSubmatch(text, -1) {
		all.WriteString(m[1] + "\n")
	}
	return all.String()
}

// example is a command and the lines that the README shows of its output.
type example struct {
	command string
	words   []string
	promise []string
}

// curlExamples finds the commands: comments above one explain it, comments below it are output.
func curlExamples(t *testing.T, text string) (all []example) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	open := false // whether comments are output of the last command
	for line := range strings.SplitSeq(text, "\n") {
		switch output, isComment := strings.CutPrefix(line, "# "); {
		case strings.HasPrefix(line, "curl "):
			words, err := shellWords(line)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			all = append(all, example{command: line, words: words[1:]})
			open = true
		case isComment && open:
			all[len(all)-1].promise = append(all[len(all)-1].promise, output)
		default:
			open = false
		}
	}
	return all
}

// shellWords splits a simple command: single quotes, and double quotes without anything to replace
// inside.
func shellWords(line string) (words []string, err error) {
	var word strings.Builder
	var quote rune
	inside := false
	for _, c := range line {
		switch {
		case quote == 0 && (c == '\'' || c == '"'):
			quote, inside = c, true
		case c == quote:
			quote = 0
		case quote == 0 && c == ' ':
			if inside {
				words = append(words, word.String())
			}
			word.Reset()
			inside = false
		case quote != '\'' && strings.ContainsRune("$`|&;<>\\*", c):
			return nil, fmt.Errorf("%c is more than this test knows of the shell", c)
		default:
			word.WriteRune(c)
			inside = true
		}
	}
	if inside {
		words = append(words, word.String())
	}
	if quote != 0 {
		return nil, fmt.Errorf("%c without its end", quote)
	}
	return words, nil
}

// check runs the example and compares what it prints: the status line if it shows one, the body if
// it shows one, up to the "..." that stands for the rest. A stream must begin.
func (e example) check(t *testing.T, run func(context.Context, []string) (string, error), base string) {
	words := make([]string, len(e.words))
	for i, w := range e.words {
		words[i] = strings.ReplaceAll(w, readmeHost, base)
	}
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	got, err := run(ctx, words)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(e.command, "text/event-stream") {
		beginsStream(t, got)
		return
	}
	if err := e.promised(got); err != nil {
		t.Error(err)
	}
}

// promised compares what a command printed with what the README shows.
func (e example) promised(got string) error {
	head, body, hasHead := strings.Cut(got, "\r\n\r\n")
	if !hasHead {
		head, body = "", got
	}
	if len(e.promise) == 0 {
		return errors.New("the README shows no output")
	}
	for _, want := range e.promise {
		if strings.HasPrefix(want, "HTTP/") {
			if status, _, _ := strings.Cut(head, "\r\n"); status != want {
				return fmt.Errorf("want %q, got %q", want, status)
			}
			continue
		}
		beginning, rest, open := strings.Cut(want, "...")
		if open && (!strings.HasPrefix(body, beginning) || !strings.HasSuffix(body, rest)) || !open && body != want {
			return fmt.Errorf("want %s, got %s", want, body)
		}
	}
	return nil
}

// TestReadmeExamplesCanFail: examples are found as they stand, and another output than the one
// shown is noticed.
func TestReadmeExamplesCanFail(t *testing.T) {
	all := curlExamples(t, "# about\ncurl -d '{\"a b\":1}' http://x \\\n  -i\n# HTTP/1.1 200 OK\n# [1,...]\n\n# no output\ncurl http://y\n")
	if len(all) != 2 || strings.Join(all[0].words, "|") != `-d|{"a b":1}|http://x|-i` || len(all[0].promise) != 2 || len(all[1].promise) != 0 {
		t.Fatalf("%q", all)
	}
	for got, ok := range map[string]bool{
		"HTTP/1.1 200 OK\r\nA: b\r\n\r\n[1,2]":   true,
		"HTTP/1.1 200 OK\r\nA: b\r\n\r\n[2,2]":   false,
		"HTTP/1.1 200 OK\r\nA: b\r\n\r\n[1,2":    false,
		"HTTP/1.1 404 None\r\nA: b\r\n\r\n[1,2]": false,
		"[1,2]":                                  false,
	} {
		if err := all[0].promised(got); (err == nil) != ok {
			t.Errorf("%q: %v", got, err)
		}
	}
	if all[1].promised("[]") == nil {
		t.Error("a command without output shown passes")
	}
	if _, err := shellWords(`curl "$HOME"`); err == nil {
		t.Error("a variable passes for text")
	}
}

// beginsStream checks that the output is the first message of a stream.
func beginsStream(t *testing.T, got string) {
	t.Helper()
	var first struct{ RID string }
	data, ok := strings.CutPrefix(got, "data: ")
	if !ok || json.Unmarshal([]byte(data), &first) != nil || first.RID == "" {
		t.Errorf("not a resource set: %q", got)
	}
}

// fetches gets what the page's code gets.
func fetches(t *testing.T, base, how, path string) {
	if how == "EventSource" {
		got, err := runHTTP(t.Context(), []string{"-N", "-H", "Accept: text/event-stream", base + path})
		if err != nil {
			t.Fatal(err)
		}
		beginsStream(t, got)
		return
	}
	got, err := runHTTP(t.Context(), []string{base + path})
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid([]byte(got)) {
		t.Errorf("not JSON: %s", got)
	}
}

// runCurl runs curl and returns its output; of a stream (-N) the first line.
func runCurl(ctx context.Context, words []string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "curl", append([]string{"-sS", "--noproxy", "*"}, words...)...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	got, err := output(out, words)
	if streaming(words) {
		cancel()
		_ = cmd.Wait() // ended by us
		return got, err
	}
	if waited := cmd.Wait(); waited != nil {
		return "", fmt.Errorf("%w: %s", waited, complaint.String())
	}
	return got, err
}

func streaming(words []string) bool {
	for _, w := range words {
		if w == "-N" {
			return true
		}
	}
	return false
}

func output(from io.Reader, words []string) (string, error) {
	if streaming(words) {
		return bufio.NewReader(from).ReadString('\n')
	}
	b, err := io.ReadAll(from)
	return string(b), err
}

// runHTTP does what curl would do with the options that the README uses.
func runHTTP(ctx context.Context, words []string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	method, url, body, header, showHead := http.MethodGet, "", "", http.Header{}, false
	for i := 0; i < len(words); i++ {
		next := func() string {
			if i++; i < len(words) {
				return words[i]
			}
			return ""
		}
		switch w := words[i]; w {
		case "-i":
			showHead = true
		case "-N":
		case "-H":
			name, value, _ := strings.Cut(next(), ":")
			header.Add(name, strings.TrimSpace(value))
		case "-d":
			method, body = http.MethodPost, next()
		case "-X":
			method = next()
		default:
			if strings.HasPrefix(w, "-") {
				return "", fmt.Errorf("an option that this test does not know: %s", w)
			}
			url = w
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header = header
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	got, err := output(answer.Body, words)
	if showHead {
		got = answer.Proto + " " + answer.Status + "\r\n\r\n" + got
	}
	return got, err
}
