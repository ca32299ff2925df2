package restest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/testkit"
)

// fakeEnv runs transcripts against the fake gateway.
func fakeEnv(t *testing.T, wrong faults) Env {
	ns := startNATS(t)
	return Env{NATS: ns.ClientURL(), Subscribed: subscribed(ns), Watchdog: testkit.Patience,
		Start: func(st Start) (Gateway, error) { return startFake(st, wrong) }}
}

const subscribeA = `
client a connects
client a > {"id":1,"method":"subscribe.test.a"}
service < access.test.a {"cid":"$cid.a"}
service < get.test.a {}
service > reply access.test.a {"result":{"get":true}}
service > reply get.test.a {"result":{"model":{"x":1.0}}}
client a < {"id":1,"result":{"models":{"test.a":{"x":1.0}}}}
`

func run(t *testing.T, e Env, text string) error {
	t.Helper()
	s, err := Parse("test", strings.TrimLeft(text, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return e.Run(s)
}

// TestRunnerPasses: what is right passes, every kind of line included.
func TestRunnerPasses(t *testing.T) {
	e := fakeEnv(t, faults{})
	for name, text := range map[string]string{
		"exchange":    subscribeA,
		"event":       subscribeA + "service > event.test.a.x {\"v\":1}\nclient a < {\"event\":\"test.a.x\",\"data\":{\"v\":1}}",
		"macro":       "client a connects\nclient a subscribes test.a {\"x\":1}\nquiet",
		"raw":         "client a connects raw\nclient a > nonsense",
		"closed":      "client a connects\nclient a > {\"id\":1,\"method\":\"close\"}\nclient a closed 1013",
		"cut":         "client a connects\nclient a disconnects\nclient a connects\nquiet",
		"two clients": subscribeA + strings.ReplaceAll(strings.ReplaceAll(subscribeA, "client a", "client b"), "cid.a", "cid.b"),
		"any order": subscribeA + "service > event.test.a.x 1\nservice > event.test.a.y 2\nany\n" +
			"client a < {\"event\":\"test.a.y\",\"data\":2}\nclient a < {\"event\":\"test.a.x\",\"data\":1}\nend",
		"loops":      subscribeA + "repeat 3\nservice > event.test.a.x $n\nclient a < {\"event\":\"test.a.x\",\"data\":$n}\nend",
		"each":       subscribeA + "each v\n  1\n  \"two\"\ndo\nservice > event.test.a.x $v\nclient a < {\"event\":\"test.a.x\",\"data\":$v}\nend",
		"wildcards":  subscribeA + "service > event.test.a.x {\"p\":1,\"q\":[2]}\nclient a < {\"event\":\"$any\",\"data\":{\"q\":[\"$any\"],...}}",
		"turns":      subscribeA + "service > event.test.a.change {\"values\":{\"x\":2}}\nclient a turns test.a {\"x\":1} into {\"x\":2} by 1",
		"subscribed": "subscribed event.>\nunsubscribed event.test.a.*",
		"advance":    subscribeA + "advance 5s",
		"no answer":  subscribeA + "service deaf get.>\nservice listens get.>",
	} {
		t.Run(name, func(t *testing.T) {
			if err := run(t, e, text); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRunnerFails: what is wrong fails, on the right line and for the right reason. A runner that
// let one of these pass would prove nothing.
func TestRunnerFails(t *testing.T) {
	runFails(t, []failing{
		{"missing message", faults{deaf: true}, subscribeA + "service > event.test.a.x 1\nclient a < {\"event\":\"test.a.x\",\"data\":1}", "test:9: client <"},
		{"superfluous message at the end", faults{superfluous: true}, subscribeA + "service > event.test.a.x 1\nclient a < {\"event\":\"test.a.x\",\"data\":1}", "client a received"},
		{"superfluous message at quiet", faults{}, subscribeA + "service > event.test.a.x 1\nquiet\nclient a < {\"event\":\"test.a.x\",\"data\":1}", "test:9: quiet"},
		{"superfluous message at a weak quiet", faults{}, subscribeA + "service > event.test.a.x 1\nquiet auth\nclient a < {\"event\":\"test.a.x\",\"data\":1}", "test:9: quiet"},
		{"other value", faults{}, subscribeA + "service > event.test.a.x {\"v\":2}\nclient a < {\"event\":\"test.a.x\",\"data\":{\"v\":1}}", ".data.v: want 1, got 2"},
		{"other number text", faults{}, subscribeA + "service > event.test.a.x 1.0\nclient a < {\"event\":\"test.a.x\",\"data\":1}", "want 1, got 1.0"},
		{"missing member", faults{}, subscribeA + "service > event.test.a.x {}\nclient a < {\"event\":\"test.a.x\",\"data\":{\"v\":1}}", `member "v" is missing`},
		{"superfluous member", faults{}, subscribeA + "service > event.test.a.x {\"v\":1}\nclient a < {\"event\":\"test.a.x\",\"data\":{}}", `member "v" is unexpected`},
		{"wrong order", faults{}, subscribeA + "service > event.test.a.x 1\nservice > event.test.a.y 2\nclient a < {\"event\":\"test.a.y\",\"data\":2}", "test:10: client <"},
		{"missing in a group", faults{}, subscribeA + "service > event.test.a.x 1\nany\nclient a < {\"event\":\"test.a.x\",\"data\":1}\nclient a < {\"event\":\"test.a.y\",\"data\":2}\nend", "after 1 of 2"},
		{"other in a group", faults{}, subscribeA + "service > event.test.a.x 1\nany\nclient a < {\"event\":\"test.a.x\",\"data\":2}\nend", "not, in any order"},
		{"missing request", faults{}, "client a connects\nservice < get.test.a", "no request to get.test.a"},
		{"request with another payload", faults{}, "client a connects\nclient a > {\"id\":1,\"method\":\"subscribe.test.a\"}\nservice < get.test.a {\"query\":\"q\"}", "none matches"},
		{"unexpected request", faults{asksTwice: true}, subscribeA, "service received get.test.a"},
		{"reply without request", faults{}, "service > reply get.test.a {}", "no open request"},
		{"second reply", faults{}, subscribeA + "service > reply get.test.a {}", "no open request"},
		{"unannounced close", faults{}, "client a connects\nclient a > {\"id\":1,\"method\":\"close\"}\nclient a < {}", "closed with 1013"},
		{"other close code", faults{}, "client a connects\nclient a > {\"id\":1,\"method\":\"close\"}\nclient a closed 1001", "want 1001"},
		{"still open", faults{}, "client a connects\nclient a closed 1001", "still open"},
		{"close at the end", faults{}, "client a connects\nclient a > {\"id\":1,\"method\":\"close\"}", "was closed with 1013"},
		{"not subscribed", faults{}, "subscribed event.test.a.*", "want subscribed"},
		{"log missing", faults{}, "logs 1 deprecated", "want 1"},
		{"pass of a loop", faults{}, "client a connects\nrepeat 2\nservice < get.test.a\nend", "pass 1 of repeat"},
		{"client that is not there", faults{}, "client a > {}", "not connected"},
	})
}

// failing is a transcript that must not pass.
type failing struct {
	name  string
	wrong faults
	text  string
	want  string // in the error
}

func runFails(t *testing.T, all []failing) {
	for _, tt := range all {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// Most of these wait for a message that is never sent. If the watchdog was too short
			// for one that is, it is made longer.
			e := fakeEnv(t, tt.wrong)
			for e.Watchdog = 200 * time.Millisecond; ; e.Watchdog *= 4 {
				err := run(t, e, tt.text)
				if err == nil {
					t.Fatal("passed")
				}
				if strings.Contains(err.Error(), tt.want) {
					return
				}
				if e.Watchdog > testkit.Patience {
					t.Fatalf("want %q in:\n%v", tt.want, err)
				}
			}
		})
	}
}

// TestParseFails: a transcript with a slip is refused, not skipped over.
func TestParseFails(t *testing.T) {
	for _, text := range []string{
		"clint a > x", "repeat 3\nquiet", "end", "  indented first", "client a", "quiet\nset a b", "set a",
		"each v\ndo\nend", "each v\n  1\nquiet\nend",
	} {
		if _, err := Parse("test", text); err == nil {
			t.Errorf("%q parsed", text)
		}
	}
}

// TestRewrite: with Rewrite set, a differing expectation is replaced in the file and the run goes
// on.
func TestRewrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.txt")
	text := strings.TrimLeft(subscribeA, "\n") + "# kept\nservice > event.test.a.x 1\nclient a < {\"event\":\"test.a.x\",\n  \"data\":2}\nquiet\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	e := fakeEnv(t, faults{})
	e.Rewrite = true
	if err := e.Run(s); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(text, "client a < {\"event\":\"test.a.x\",\n  \"data\":2}", `client a < {"event":"test.a.x","data":1}`, 1)
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
