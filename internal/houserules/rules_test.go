package houserules

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

// mayImport is the import table: which of our packages each package may use in
// what it ships. It only points downward. Tests may import what they need.
var mayImport = map[string][]string{
	"owner":   {},
	"pool":    {},
	"metrics": {},
	"wsproto": {"pool"},
	"res":     {"pool"},
	"state":   {"res"},
	// The header that a proxy in front of the gateway sends.
	"proxyproto": {},
	"netpoll":    {"wsproto", "proxyproto", "pool", "owner", "metrics"},
	"natsbus":    {"owner", "metrics"},
	"cache":      {"res", "state", "owner", "metrics"},
	"fanout":     {"res", "state", "pool", "metrics"},
	"session":    {"res", "state", "fanout", "owner", "metrics"},
	"rest":       {"res", "state", "fanout", "session"},
	"gateway":    {"owner", "pool", "metrics", "wsproto", "res", "state", "netpoll", "natsbus", "cache", "fanout", "session", "rest"},
	// A service like any other: it meets the gateway on NATS only.
	"demo":       {},
	"cmd/sluice": {"gateway", "demo"},
	// The load harness sees gateways only from outside.
	"loadtest/hist":   {},
	"loadtest/proc":   {},
	"loadtest/floor":  {"wsproto"},
	"loadtest/client": {"wsproto", "res", "loadtest/hist"},
	"loadtest":        {"wsproto", "res", "loadtest/hist", "loadtest/proc", "loadtest/floor", "loadtest/client"},
	"loadtest/report": {"loadtest", "loadtest/hist"},
	"cmd/sluice-load": {"loadtest", "loadtest/client", "loadtest/floor", "loadtest/report"},
	// Servers of others, as programs to compare with.
	"bench/peers/centrifuge": {},

	// For tests only; nothing above may import them, but for invariants.
	"internal/invariants": {},
	"internal/houserules": {},
	"internal/natstest":   {"owner", "metrics", "natsbus"},
	// A service written by somebody who knows the protocol, not the gateway.
	"internal/e2e/testservice": {},
	"internal/restest":         {"owner", "pool", "metrics", "wsproto", "res", "state", "netpoll", "natsbus", "cache", "fanout", "session", "gateway", "demo", "internal/natstest"},
}

// everywhere may be imported by all packages: it compiles to nothing.
const everywhere = "internal/invariants"

// hot are the packages on the path of an event. Their state has one owner, so
// they need no lock; their cost is counted in nanoseconds.
var hot = []string{"owner", "pool", "wsproto", "res", "state", "netpoll", "natsbus", "cache", "fanout", "session"}

// timeless are the packages to which time is an input: they take "now" from
// their owner's clock, so that their tests run in fake time.
var timeless = []string{"pool", "wsproto", "res", "state", "cache", "fanout", "session"}

// banned are imports that have no place in programs; packages below internal/
// are for tests and use what they need. An entry whose path
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
	{path: "net", in: []string{"pool", "res", "state", "cache", "fanout", "session"}, why: "knows RES, not sockets"},
	{path: "net/http", in: []string{"owner", "pool", "res", "state", "natsbus", "cache", "fanout", "session"}, why: "HTTP ends at the gateway's edge"},
	{path: "reflect", in: []string{"owner", "pool", "wsproto", "state", "netpoll", "natsbus", "cache", "fanout", "session"}, except: []string{"netpoll/tls_slim.go"}, why: "too slow on the path of an event"},
	{path: "github.com/panjf2000/gnet/", except: []string{"netpoll"}, why: "netpoll is the one place that knows the event engine"},
	{path: "github.com/gobwas/ws", except: []string{"wsproto"}, why: "wsproto is the one place that knows its primitives"},
	{path: "github.com/nats-io/nats.go", except: []string{"natsbus", "demo", "cmd/sluice", "loadtest"}, why: "natsbus is the gateway's one way to NATS"},
	{path: "github.com/nats-io/nats-server/", except: []string{"gateway"}, why: "the embedded server is the gateway's"},
	{path: "github.com/jirenius/go-res", except: []string{"demo"}, why: "a library for services, not for the gateway"},
	{path: "github.com/valyala/fastjson", except: []string{"res"}, why: "res has the codecs; its values live only until the next parse"},
	{path: "github.com/prometheus/", except: []string{"metrics", "gateway/metrics_server.go"}, why: "metrics is the bridge, and the metrics port serves what it gathers in Prometheus's format; others count with its atomics"},
	{path: "github.com/spf13/pflag", except: []string{"gateway"}, why: "the settings' table is the one place that knows flags"},
}

// locks are the files that may hold a lock or other shared state of package
// sync, and why they need it. WaitGroup and Once are free to all.
var locks = map[string]string{
	"owner/throttle.go":        "shared by the shards; taken per reset request, never per event",
	"owner/clock.go":           "the manual clock of tests",
	"owner/mailbox.go":         "a pool of nodes, which producers of any owner take from",
	"pool/buffer.go":           "the pools themselves",
	"wsproto/deflate.go":       "a pool of compressors, which are too large to keep one per loop when few messages are compressed",
	"wsproto/inflate.go":       "a pool of decompressors: a connection has one only while it inflates a message",
	"netpoll/engine.go":        "start and stop, and which loop is which; looked up once per connection",
	"netpoll/tls_handshake.go": "between event loops and handshake workers, never with a connection whose handshake is done",
	"netpoll/handover.go":      "a connection that has left the loops for net/http",
	"natsbus/publish.go":       "a pool of batches between owners and the publisher",
	"cache/loss.go":            "written when a loop is overloaded, off the path of an event",
	"rest/encode.go":           "a pool of buffers between requests, off the event loops",
	"rest/compress.go":         "pools of compressors between requests, off the event loops",
	"gateway/gateway.go":       "start and stop",
	"gateway/watch.go":         "a NATS connection's loss and return",
	"gateway/deprecated.go":    "one log line per resource name",
	"gateway/certs.go":         "certificates are read again by one handshake worker; only ever tried, so nobody waits",
	"demo/demo.go":             "start and stop",
	"demo/link.go":             "a subscription list, used at start and stop",
}

// maxLines bounds a file: beyond it a reader loses the thread. Aim at 600.
const maxLines = 700

// shipped are the sources that go into programs.
func shipped(t *testing.T) []*source {
	return slices.DeleteFunc(sources(t), func(s *source) bool { return s.test })
}

// forTests is true for packages that no program contains.
func forTests(s *source) bool { return strings.HasPrefix(s.pkg, "internal/") }

func TestImportsPointDownward(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range shipped(t) {
		allowed, known := mayImport[s.pkg]
		seen[s.pkg] = true
		if !known {
			t.Errorf("%s: package %s is not in the import table: give it a line", s.path, s.pkg)
			continue
		}
		for _, p := range s.imports() {
			ours, ok := strings.CutPrefix(p, module+"/")
			if ok && ours != everywhere && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s: %s may use only %v of ours", s.path, ours, s.pkg, allowed)
			}
		}
	}
	for _, p := range slices.Sorted(maps.Keys(mayImport)) {
		if !seen[p] && p != "internal/houserules" {
			t.Errorf("package %s is in the import table but not in the tree", p)
		}
	}
}

// The table itself must not have a cycle, or "downward" means nothing.
func TestImportTableHasNoCycle(t *testing.T) {
	const visiting, done = 1, 2
	marks := map[string]int{}
	var visit func(p string, trail []string)
	visit = func(p string, trail []string) {
		switch marks[p] {
		case done:
			return
		case visiting:
			t.Fatalf("cycle: %s", strings.Join(append(trail, p), " → "))
		}
		marks[p] = visiting
		for _, q := range mayImport[p] {
			visit(q, append(trail, p))
		}
		marks[p] = done
	}
	for _, p := range slices.Sorted(maps.Keys(mayImport)) {
		visit(p, nil)
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

// exportedReceiver is true for functions and for methods that a reader of the
// package's documentation can see.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
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
			return x.IsExported()
		default:
			return false
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
		if s.lines > maxLines {
			t.Errorf("%s has %d lines, more than %d: split it by role", s.path, s.lines, maxLines)
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
