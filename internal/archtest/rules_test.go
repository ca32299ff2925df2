package archtest

import (
	"go/ast"
	"go/token"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// kits are the packages that only tests import, and programs that only tests
// run; they use what they need.
var kits = []string{"internal/archtest", "internal/docstest", "internal/natstest", "internal/restest", "internal/testkit", "internal/transcript", "internal/e2e/testservice"}

// everywhere may be imported by all packages: it compiles to nothing.
const everywhere = "internal/invariants"

// hot are the packages on the path of an event. Their state has one owner, so
// they need no lock; their cost is counted in nanoseconds.
var hot = []string{"internal/owner", "internal/ratelimit", "pool", "wsproto", "internal/res", "internal/state", "netpoll", "internal/limit", "internal/natsbus", "cache", "fanout", "internal/session"}

// timeless are the packages to which time is an input: they take "now" from
// their owner's clock, so that their tests run in fake time.
var timeless = []string{"internal/ratelimit", "pool", "wsproto", "internal/res", "internal/state", "internal/limit", "cache", "fanout", "internal/session"}

// banned are imports that have no place in programs; the test
// kits use what they need. An entry whose path
// ends in / stands for everything below it. In names the packages the ban is
// for; empty means all but those in except, which are packages or single files.
var banned = []struct {
	path   string
	in     []string
	except []string
	why    string
}{
	{path: "encoding/json", in: hot, why: "reflection and an allocation per value; res has the codecs"},
	{path: "github.com/gobwas/ws/wsutil", why: "its readers allocate the length that a peer claims"},
	{path: "log", why: "logs are structured: log/slog"},
	{path: "math/rand", why: "math/rand/v2 has better generators and no global seed"},
	{path: "io/ioutil", why: "replaced by io and os"},
	{path: "net", in: []string{"pool", "internal/res", "internal/state", "cache", "fanout", "internal/session"}, why: "knows RES, not sockets"},
	{path: "net/http", in: []string{"internal/owner", "pool", "internal/res", "internal/state", "internal/natsbus", "cache", "fanout", "internal/session"}, why: "HTTP ends at the gateway's edge"},
	{path: "reflect", in: []string{"internal/owner", "pool", "wsproto", "internal/state", "netpoll", "internal/natsbus", "cache", "fanout", "internal/session"}, except: []string{"netpoll/tls_buffers.go"}, why: "too slow on the path of an event"},
	{path: "github.com/panjf2000/gnet/", except: []string{"netpoll"}, why: "netpoll is the one place that knows the event engine"},
	{path: "github.com/gobwas/ws", except: []string{"wsproto"}, why: "wsproto is the one place that knows its primitives"},
	{path: "github.com/nats-io/nats.go", except: []string{"internal/natsbus", "internal/downlink", "internal/demo", "internal/example", "examples/presence", "cmd/sluice", "loadtest/differential", "loadtest/faults", "loadtest/service", "loadtest/soak/service"}, why: "natsbus is the gateway's one way to NATS"},
	{path: "github.com/nats-io/nats-server/", except: []string{"internal/embednats"}, why: "embednats is the one place that knows the server"},
	{path: "github.com/jirenius/go-res", except: []string{"internal/demo", "internal/example", "examples/books", "examples/chat", "examples/hello", "examples/jwt", "examples/login", "examples/pages", "examples/presence", "examples/ticker", "examples/todo"}, why: "a library for services, not for the gateway"},
	{path: "github.com/valyala/fastjson", except: []string{"internal/res"}, why: "res has the codecs; its values live only until the next parse"},
	{path: "go.yaml.in/yaml/", except: []string{"internal/config/yaml.go", "loadtest/plan", "cmd/sluice-load"}, why: "it expands aliases and has tags: config reads the little that its file may have"},
	{path: "github.com/rivo/tview", except: []string{"internal/top"}, why: "top is the one place that knows the terminal"},
	{path: "github.com/gdamore/tcell/", except: []string{"internal/top"}, why: "top is the one place that knows the terminal"},
	{path: "github.com/prometheus/", except: []string{"internal/metrics", "internal/metricsserver"}, why: "metrics is the bridge, and the metrics port serves what it gathers in Prometheus's format; others count with its atomics"},
}

// locks are the files that may hold a lock or other shared state of package
// sync, and why they need it. WaitGroup and Once are free to all.
var locks = map[string]string{
	"internal/ratelimit/table.go":       "shared by the loops and net/http; taken once per connection or HTTP request, and only if addresses are limited",
	"internal/admin/recent.go":          "answers for the pages that ask the same, on goroutines of the admin port",
	"internal/admin/trace.go":           "which traces are on, for requests to the admin port; owners get lists of them by message",
	"internal/owner/throttle.go":        "shared by the shards; taken per reset request, never per event",
	"internal/owner/clock.go":           "the manual clock of tests",
	"internal/owner/mailbox.go":         "a pool of nodes, which producers of any owner take from",
	"pool/buffer.go":                    "the pools themselves",
	"wsproto/deflate.go":                "a pool of compressors, which are too large to keep one per loop when few messages are compressed",
	"wsproto/inflate.go":                "a pool of decompressors: a connection has one only while it inflates a message",
	"netpoll/engine.go":                 "start and stop, and which loop is which; looked up once per connection",
	"netpoll/tls_handshake.go":          "between event loops and handshake workers, never with a connection whose handshake is done",
	"netpoll/linger.go":                 "connections that have left the loops for net/http and are being closed",
	"netpoll/handover.go":               "a connection that has left the loops for net/http",
	"netpoll/regain.go":                 "which connections net/http has; once per connection, and once per upgrade",
	"netpoll/deadline.go":               "deadlines of a connection at net/http, which cuts a read of one goroutine short from another",
	"internal/owners/guests.go":         "clients that have come from another process, found once per token event of a foreign client",
	"internal/natsbus/publish.go":       "a pool of batches between owners and the publisher",
	"internal/natsbus/socket.go":        "a NATS connection's writes, by nats.go's goroutines and the publisher; never taken for an event",
	"examples/jwt/login.go":             "sessions of the example's login server, whose requests come on goroutines of net/http",
	"loadtest/service/service.go":       "the harness's service, whose requests come on several goroutines of nats.go",
	"cache/loss.go":                     "written when a loop is overloaded, off the path of an event",
	"internal/httpapi/writing.go":       "responses being written by net/http, off the event loops",
	"internal/httpapi/share.go":         "bodies that responses share, found on goroutines off the event loops",
	"internal/httpapi/encode.go":        "a pool of buffers between requests, off the event loops",
	"internal/httpapi/compress.go":      "pools of compressors between requests, off the event loops",
	"internal/lifecycle/lifecycle.go":   "start and stop",
	"internal/memory/pace.go":           "the collector's pace, each second at most, and at the beginning and end of an upgrade",
	"internal/httpedge/server.go":       "reloads, start and stop",
	"internal/embednats/leaf.go":        "between the server's goroutines, whose log it reads, and those that connect; never on the path of an event",
	"internal/grace/grace.go":           "a NATS connection's loss and return",
	"internal/servicelog/servicelog.go": "one log line for the malformed answers of a while, never on the path of an event",
	"internal/certs/certs.go":           "certificates are read again by one handshake worker; only ever tried, so no worker blocks",
	"internal/jwtauth/source.go":        "fetches of keys: between the workers that verify tokens, never an event loop",
	"internal/demo/demo.go":             "start and stop",
	"loadtest/run/probe.go":             "between connects that may last longer than the pause between two",
	"loadtest/wire/relay.go":            "between a relay's goroutines, which are no part of a gateway",
	"loadtest/differential/run.go":      "between the conversations that are held at a time",
	"loadtest/differential/side.go":     "a client of the gateway: between its reader and its conversation",
	"loadtest/differential/world.go":    "a service: orders its replies and steps",
	"loadtest/faults/client.go":         "a client of the gateway: between its reader and its row",
	"loadtest/faults/world.go":          "a service: orders its replies and events",
	"loadtest/soak/gateway.go":          "a gateway that starts must not find half of its files replaced",
	"loadtest/soak/services.go":         "one command at a time to a service's process",
	"internal/presence/presence.go":     "between the tracker's goroutine and a NATS connection's publisher; never an event loop",
	"internal/demo/link.go":             "a subscription list, used at start and stop",
}

// maxLines bounds a file: beyond it a reader loses the thread. Aim at 600.
const maxLines = 700

// shipped are the sources that go into programs.
func shipped(t *testing.T) []*source {
	return slices.DeleteFunc(sources(t), func(s *source) bool { return s.test })
}

// forTests reports whether no program contains the source's package.
func forTests(s *source) bool { return slices.Contains(kits, s.pkg) }

// importRow matches a row of ARCHITECTURE.md's table of packages: folders, what
// they own, which of our packages they import.
var importRow = regexp.MustCompile("(?m)^\\| (`[^|]+`) \\|[^|]*\\| ([^|]*) \\|$")

// importTable reads the table: folder → packages imported, as the table names them.
func importTable(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top(t), "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "## The packages")
	if !ok {
		t.Fatal(`ARCHITECTURE.md has no section "The packages"`)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	rows := map[string]string{}
	for _, m := range importRow.FindAllStringSubmatch(section, -1) {
		folder := strings.Trim(m[1], "`")
		if _, twice := rows[folder]; twice {
			t.Errorf("ARCHITECTURE.md: two rows for %s", folder)
		}
		rows[folder] = m[2]
	}
	return rows
}

// The table of imports in ARCHITECTURE.md is exact: a package has each import
// that its row shows, and no other. So a new dependency between packages is a
// change of that table, made on purpose. Go itself refuses cycles.
func TestImportsAreThoseOfTheTable(t *testing.T) {
	used := map[string]map[string]bool{}
	for _, s := range shipped(t) {
		if forTests(s) || s.pkg == everywhere {
			continue
		}
		if used[s.pkg] == nil {
			used[s.pkg] = map[string]bool{}
		}
		for _, p := range s.imports() {
			if ours, ok := strings.CutPrefix(p, module+"/"); ok && ours != everywhere {
				used[s.pkg][strings.TrimPrefix(ours, "internal/")] = true
			}
		}
	}
	table := importTable(t)
	for _, p := range slices.Sorted(maps.Keys(used)) {
		want := strings.Join(slices.Sorted(maps.Keys(used[p])), ", ")
		if want == "" {
			want = "–"
		}
		switch got, ok := table[p]; {
		case !ok:
			t.Errorf("ARCHITECTURE.md: give package %s a row, with the imports: %s", p, want)
		case got != want:
			t.Errorf("ARCHITECTURE.md: package %s imports %s; its row shows %s", p, want, got)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(table)) {
		if used[p] == nil && !slices.Contains(kits, p) {
			t.Errorf("ARCHITECTURE.md has a row for %s, which has no package", p)
		}
	}
}

// No program contains a test kit.
func TestKitsAreForTestsOnly(t *testing.T) {
	for _, s := range shipped(t) {
		if forTests(s) {
			continue
		}
		for _, p := range s.imports() {
			if slices.Contains(kits, strings.TrimPrefix(p, module+"/")) {
				t.Errorf("%s imports %s, which is for tests", s.path, p)
			}
		}
	}
}

func TestBannedImports(t *testing.T) {
	for _, s := range shipped(t) {
		if forTests(s) {
			continue
		}
		for _, p := range s.imports() {
			for _, b := range banned {
				matches := p == b.path || strings.HasSuffix(b.path, "/") && strings.HasPrefix(p, b.path)
				if !matches || slices.Contains(b.except, s.pkg) || slices.Contains(b.except, s.path) {
					continue
				}
				if len(b.in) == 0 || slices.Contains(b.in, s.pkg) {
					t.Errorf("%s imports %s: %s", s.path, p, b.why)
				}
			}
		}
	}
}

func TestLocksHaveAReason(t *testing.T) {
	used := map[string]bool{}
	for _, s := range shipped(t) {
		if forTests(s) {
			continue
		}
		s.selects(func(n ast.Node, p, member string) {
			switch {
			case p != "sync" || member == "WaitGroup" || strings.HasPrefix(member, "Once"):
			case locks[s.path] == "":
				t.Errorf("%s uses sync.%s: state has one owner here; if this is off the path of an event, add it to the table with its reason", s.at(n), member)
			default:
				used[s.path] = true
			}
		})
	}
	for _, file := range slices.Sorted(maps.Keys(locks)) {
		if !used[file] {
			t.Errorf("%s holds no lock any more: remove it from the table", file)
		}
	}
}

func TestTimeIsAnInput(t *testing.T) {
	for _, s := range shipped(t) {
		if !slices.Contains(timeless, s.pkg) {
			continue
		}
		s.selects(func(n ast.Node, p, member string) {
			switch member {
			case "Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker":
				if p == "time" {
					t.Errorf("%s uses time.%s: take the time from the owner's clock", s.at(n), member)
				}
			}
		})
	}
}

// A test that sleeps is slow or flaky, and one that skips itself proves nothing.
func TestTestsNeitherSleepNorSkip(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test && !forTests(s) {
			continue
		}
		s.selects(func(n ast.Node, p, member string) {
			if p == "time" && member == "Sleep" {
				t.Errorf("%s sleeps: wait for an event, or use the manual clock", s.at(n))
			}
		})
		ast.Inspect(s.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Skip" && sel.Sel.Name != "Skipf" && sel.Sel.Name != "SkipNow" {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && (x.Name == "t" || x.Name == "b" || x.Name == "f") {
				t.Errorf("%s skips: make the test run everywhere", s.at(n))
			}
			return true
		})
	}
}

// refusal is how a package comment says what is not the package's business.
var refusal = regexp.MustCompile(`(?i)\b(never|nothing|nor|do(es)? no|knows? no)`)

// Each package says what it owns and what it never does.
func TestPackageComments(t *testing.T) {
	docs, kinds := map[string]string{}, map[string]string{}
	for _, s := range shipped(t) {
		kinds[s.pkg] = "Package "
		if s.ast.Name.Name == "main" {
			kinds[s.pkg] = "Command "
		}
		if s.ast.Doc == nil {
			docs[s.pkg] += ""
			continue
		}
		if docs[s.pkg] != "" {
			t.Errorf("%s: package %s has a second package comment", s.path, s.pkg)
		}
		docs[s.pkg] = s.ast.Doc.Text()
	}
	for _, p := range slices.Sorted(maps.Keys(docs)) {
		doc := docs[p]
		want := kinds[p] + path.Base(p) + " "
		switch {
		case doc == "":
			t.Errorf("package %s has no package comment", p)
		case !strings.HasPrefix(doc, want):
			t.Errorf("the comment of package %s does not begin with %q", p, want)
		case !refusal.MatchString(doc):
			t.Errorf("the comment of package %s does not say what it never does", p)
		}
	}
}

func TestExportedNamesHaveComments(t *testing.T) {
	for _, s := range shipped(t) {
		if s.ast.Name.Name == "main" {
			continue
		}
		commented := 0 // the line below a function with a comment: one comment may speak for neighbours
		for _, d := range s.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				neighbour := s.line(d.Pos()) == commented
				if d.Name.IsExported() && d.Doc == nil && !neighbour && exportedReceiver(d) && !selfEvident(d) {
					t.Errorf("%s: %s has no comment", s.at(d), d.Name.Name)
				}
				if d.Doc != nil || neighbour {
					commented = s.line(d.End()) + 1
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					undocumented(spec, d.Doc != nil, func(name *ast.Ident) {
						t.Errorf("%s: %s has no comment", s.at(name), name.Name)
					})
				}
			}
		}
	}
}

// exportedReceiver reports whether d is a function, or a method that a reader of the package's
// documentation can see.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	name := receiver(d)
	return name != nil && name.IsExported()
}

// receiver returns the name of a method's type.
func receiver(d *ast.FuncDecl) *ast.Ident {
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.Ident:
			return x
		default:
			return nil
		}
	}
}

// selfEvident is true for the methods whose meaning the language fixes.
func selfEvident(d *ast.FuncDecl) bool {
	return d.Recv != nil && (d.Name.Name == "Error" || d.Name.Name == "String")
}

// undocumented reports the exported names of a declaration that neither it, nor
// its group, nor the end of its line comments on.
func undocumented(spec ast.Spec, group bool, report func(*ast.Ident)) {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		if spec.Name.IsExported() && spec.Doc == nil && !group {
			report(spec.Name)
		}
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			if name.IsExported() && spec.Doc == nil && spec.Comment == nil && !group {
				report(name)
			}
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	for _, s := range sources(t) {
		if n := len(s.text); n > maxLines {
			t.Errorf("%s has %d lines, more than %d: split it by role", s.path, n, maxLines)
		}
	}
}

// What is left undone belongs on the project's list, not into the source.
func TestNothingIsLeftUndone(t *testing.T) {
	marks := []string{"TO" + "DO", "FIX" + "ME", "XX" + "X"}
	dir := top(t)
	walk(t, func(name string) {
		switch filepath.Ext(name) {
		case ".go", ".js", ".mjs", ".md", ".html", ".css", ".txt":
		default:
			return
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			for _, m := range marks {
				if strings.Contains(line, m) {
					t.Errorf("%s:%d says %s", name, i+1, m)
				}
			}
		}
	})
}

// The rules are worth nothing if the reader of the tree misses what they are
// about: each must find its fault in a source made for it.
func TestRulesSeeTheirFaults(t *testing.T) {
	s := parse(t, `package p

import clock "time"
import "sync"

type Exported struct{ mu sync.Mutex }
type hidden struct{}

func (e *Exported) Bare() { clock.Sleep(1) }
func (hidden) Bare()      {}

// Group is documented as a whole.
const (
	A = 1
	B = 2
)

var C, D = 1, 2 // documented at the end of the line
var E = 3
`)
	var uses []string
	s.selects(func(_ ast.Node, p, member string) { uses = append(uses, p+"."+member) })
	if want := []string{"sync.Mutex", "time.Sleep"}; !slices.Equal(uses, want) {
		t.Errorf("uses %v, want %v", uses, want)
	}
	var bare []string
	for _, d := range s.ast.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Doc == nil && exportedReceiver(d) {
				bare = append(bare, d.Name.Name)
			}
		case *ast.GenDecl:
			if d.Tok == token.IMPORT {
				continue
			}
			for _, spec := range d.Specs {
				undocumented(spec, d.Doc != nil, func(n *ast.Ident) { bare = append(bare, n.Name) })
			}
		}
	}
	if want := []string{"Exported", "Bare", "E"}; !slices.Equal(bare, want) {
		t.Errorf("without comment %v, want %v", bare, want)
	}
}
