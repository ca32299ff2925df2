package archtest

import (
	"go/ast"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// logFields are the keys of the attributes of log lines. One thing has one key in all packages, so
// that a search for a connection or resource finds all its lines. docs/observability.md says what
// each of them means.
var logFields = []string{
	"access", "addr", "advice", "after", "by", "bytes", "cacheBytes", "cached", "changed", "cid",
	"clientCertificates", "connection", "connections", "delay", "edge", "error", "event",
	"evicted", "expires", "file", "flush", "from", "gid", "grace", "group", "hold", "home",
	"hub", "ignored", "in", "instance", "jwks", "keys", "kid", "lease", "limit", "list", "longest", "loop",
	"loops", "message", "names", "nats", "needsRestart", "panic", "part", "path", "pattern",
	"pause", "pid", "pressure", "query", "queued", "rate", "reason", "refetched", "refused",
	"remote", "resource", "resources", "rtt", "server", "setting", "shard", "shards", "signal",
	"source", "stack", "status", "step", "subject", "suppressed", "to", "token", "took", "try",
	"url", "used", "within",
}

// logsOf are the folders whose packages write a gateway's log.
var logsOf = []string{"cache", "cmd/sluice", "fanout", "gateway", "internal", "netpoll"}

// beforeAttributes is how many arguments come before the attributes, by the name of a function that
// logs. Those of slog.Logger come first, then owner.Faults, then functions that use a
// loglimit.Limiter, which is their first argument. Log is both, see attributes.
var beforeAttributes = map[string]int{
	"Debug": 1, "Info": 1, "Warn": 1, "Error": 1, "With": 0, "log": 1,
	"Note": 2, "Contain": 1,
	"warn": 2, "error": 2, "bad": 2,
}

// attributes returns the attributes that n gives a log line: keys and values in turn. Other calls
// may have the names of functions that log, so those with a format or a function are left out.
func attributes(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt: // attributes that are collected before the call
		if l, ok := n.Rhs[0].(*ast.CompositeLit); ok && named(n.Lhs[0]) == "attrs" {
			return l.Elts
		}
	case *ast.CallExpr:
		skip, ok := beforeAttributes[named(n.Fun)]
		if len(n.Args) == 0 {
			return nil
		}
		switch f, _ := n.Fun.(*ast.SelectorExpr); {
		case f == nil:
			if named(n.Fun) != "append" {
				break
			}
			switch into := n.Args[0].(type) {
			case *ast.Ident:
				skip, ok = 1, into.Name == "attrs"
			case *ast.CompositeLit:
				if named(n.Args[len(n.Args)-1]) == "attrs" {
					return into.Elts
				}
			}
		case named(f.X) == "http":
			return nil
		case named(f.X) == "slog":
			switch f.Sel.Name {
			case "String", "Int", "Int64", "Uint64", "Bool", "Duration", "Time", "Any", "Group":
				return n.Args[:1]
			}
		case f.Sel.Name == "Log":
			skip, ok = 5, true
			if c, is := n.Args[0].(*ast.CallExpr); is && named(c.Fun) == "Background" {
				skip = 3
			}
		}
		if !ok || len(n.Args) <= skip {
			return nil
		}
		for _, a := range n.Args {
			if _, is := a.(*ast.FuncLit); is {
				return nil
			}
			if l, is := a.(*ast.BasicLit); is && strings.Contains(l.Value, "%") {
				return nil
			}
		}
		if last := len(n.Args) - 1; n.Ellipsis.IsValid() {
			if id, is := n.Args[last].(*ast.Ident); is && id.Name != "attrs" {
				return n.Args[last:] // collected where it is not seen
			}
			return n.Args[skip:last]
		}
		return n.Args[skip:]
	}
	return nil
}

// named returns the last part of a name, "" if e is none.
func named(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// logKeys calls f with each key of an attribute in a source that logs; "" stands for one that is no
// literal, and for attributes collected in a variable that is not named attrs.
func logKeys(s *source, f func(at ast.Node, key string)) {
	ast.Inspect(s.ast, func(n ast.Node) bool {
		for i, a := range attributes(n) {
			if i%2 != 0 {
				continue
			}
			key := ""
			if l, ok := a.(*ast.BasicLit); ok && l.Kind == token.STRING {
				key, _ = strconv.Unquote(l.Value) // the parser has checked it
			} else if named(a) == "LevelKey" {
				continue // of slog itself
			}
			f(a, key)
		}
		return true
	})
}

// Every attribute of a log line has a key of logFields, and each of those is used.
func TestLogFieldsAreOfTheList(t *testing.T) {
	used := map[string]bool{}
	for _, s := range shipped(t) {
		if forTests(s) || !slices.ContainsFunc(logsOf, func(d string) bool { return s.pkg == d || strings.HasPrefix(s.pkg, d+"/") }) {
			continue
		}
		logKeys(s, func(at ast.Node, key string) {
			used[key] = true
			switch {
			case key == "":
				t.Errorf("%s: write the key of a log attribute as a literal, and collect attributes in attrs, so that this test sees it", s.at(at))
			case !slices.Contains(logFields, key):
				t.Errorf("%s: no log attribute has the key %q: use the one that others have for the same, or add it to logFields and docs/observability.md", s.at(at), key)
			}
		})
	}
	for _, key := range logFields {
		if !used[key] {
			t.Errorf("no log line has the key %q: take it out of logFields and docs/observability.md", key)
		}
	}
}

// fieldRow matches a row of the table of fields in docs/observability.md.
var fieldRow = regexp.MustCompile("(?m)^\\| `([A-Za-z]+)` \\| [^|]+ \\|$")

// docs/observability.md explains exactly the keys of logFields, in alphabetical order.
func TestLogFieldsAreExplained(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(top(t), "docs/observability.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Logs\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var rows []string
	for _, m := range fieldRow.FindAllStringSubmatch(section, -1) {
		rows = append(rows, m[1])
	}
	if want := slices.Sorted(slices.Values(logFields)); !slices.Equal(rows, want) {
		t.Errorf("the table of fields in docs/observability.md, section Logs, has the rows\n%q, want\n%q", rows, want)
	}
}

// The keys are found in all forms of a line, and nothing else is taken for one.
func TestLogKeysAreFound(t *testing.T) {
	s := parse(t, `package p
import "log/slog"
func f() {
	log.Info("x", "a", 1, "b", "no")
	l.o.Log.Log(context.Background(), slog.LevelInfo, "x", "c", 1)
	limiter.Log(log, slog.LevelWarn, now, every, "x", "d", 1)
	a.warn(&a.kind, "x", "e", 1)
	attrs := []any{"f", 1}
	attrs = append(attrs, "g", 1)
	log.Warn("x", attrs...)
	log.Warn("x", others...)
	log.Error("x", append([]any{"k", 1}, attrs...)...)
	log.With("h", 1).Error("x", key, 1)
	faults.Note(owner.Loop, value, "i", 1)
	slog.String("j", "no")
	http.Error(w, "no", 1)
	r.warn("no %s %s", "no", "no", "no")
	s.With("no", func() {})
	log.Error("no")
}
`)
	found := map[string]bool{}
	logKeys(s, func(_ ast.Node, key string) { found[key] = true })
	if got := strings.Join(slices.Sorted(maps.Keys(found)), " "); got != " a b c d e f g h i j k" {
		t.Errorf("found %q", got)
	}
}
