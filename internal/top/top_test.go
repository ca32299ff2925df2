package top

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gdamore/tcell/v2"

	"sluice/internal/livetrace"
	"sluice/internal/testkit"
)

// canned answers with fixed texts, or with an error while broken is set.
type canned struct {
	asked  atomic.Int64
	broken atomic.Bool
	ended  atomic.Int64 // streams
}

func (c *canned) GetJSON(_ context.Context, path string, v any) error {
	if c.broken.Load() {
		return errors.New("no \x1b[31manswer")
	}
	n := c.asked.Add(1)
	path, _, _ = strings.Cut(path, "?")
	text := map[string]string{
		"/api/overview": `{"version":"v1","time":` + strconv.FormatInt(n*1000, 10) + `,"uptimeMs":61000,"connections":{"webSocket":3,"slow":1},
			"loops":[{"index":0,"mailbox":7,"connections":12345}],"shards":[{"index":2,"late":true}]}`,
		"/api/resources":   `{"resources":[{"name":"a.[red]b","query":"q\u001b]0;x","subscribers":20000,"deliveries":1234.5},{"name":"quiet"}]}`,
		"/api/connections": `{"connections":[{"cid":"abc","remote":"192.0.2.1:5","queued":2048,"stalledMs":1500,"requests":4}]}`,
		"/api/requests":    `{"requests":[{"cid":"def","type":"call","rid":"a.[b]\u001b","method":"set","ageMs":61500,"state":"queued","subject":"call.a.set"}]}`,
	}[path]
	return json.Unmarshal([]byte(text), v)
}

// Stream yields a line that names the request, and then goes on until ctx ends.
func (c *canned) Stream(ctx context.Context, path string, f func(line []byte) error) error {
	if c.broken.Load() {
		return errors.New("no \x1b[31manswer")
	}
	defer c.ended.Add(1)
	line, _ := json.Marshal(livetrace.Line{Kind: livetrace.Event, RID: path, Payload: "[red]\x1b"})
	if err := f(line); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// display is a Top on a simulated terminal.
type display struct {
	t      *testing.T
	top    *Top
	screen tcell.SimulationScreen
	ended  chan error
	stop   context.CancelFunc
}

func newDisplay(t *testing.T, api API) *display {
	t.Helper()
	d := &display{t: t, screen: tcell.NewSimulationScreen("UTF-8"), ended: make(chan error, 1)}
	if err := d.screen.Init(); err != nil {
		t.Fatal(err)
	}
	d.screen.SetSize(110, 40)
	ctx, cancel := context.WithCancel(context.Background())
	d.stop = cancel
	d.top = New(api, 10*time.Millisecond, d.screen)
	go func() { d.ended <- d.top.Run(ctx) }()
	t.Cleanup(cancel)
	return d
}

// text returns what the terminal shows. The cells belong to the goroutine that draws.
func (d *display) text() string {
	got := make(chan string, 1)
	d.top.app.QueueUpdate(func() {
		cells, width, _ := d.screen.GetContents()
		var b strings.Builder
		for i, c := range cells {
			if i > 0 && i%width == 0 {
				b.WriteByte('\n')
			}
			for _, r := range c.Runes {
				b.WriteRune(r)
			}
		}
		got <- b.String()
	})
	return testkit.Await(d.t, got, "the terminal's content")
}

func (d *display) waitFor(texts ...string) {
	d.t.Helper()
	last := ""
	defer func() {
		if d.t.Failed() {
			d.t.Log(last)
		}
	}()
	testkit.Until(d.t, strings.Join(texts, ", "), func() bool {
		last = d.text()
		for _, text := range texts {
			if !strings.Contains(last, text) {
				return false
			}
		}
		return true
	})
}

func TestLists(t *testing.T) {
	api := &canned{}
	d := newDisplay(t, api)
	d.waitFor("Sluice v1 · ready · up 1m1s", "3 WebSockets, 0 streams, 1 slow", // the head
		"1.2k", "20k", "a.[red]b?q?]0;x", "quiet", // resources
		"2 KiB", "1.5s", "192.0.2.1:5", "abc", // clients
		"1m1.5s", "queued", "a.[b]?", "call.a.set", "def", // requests
		"0%", "12k", "event loop 0", "late", "cache shard 2")
	api.broken.Store(true)
	d.waitFor("no ?[31manswer", "quiet")
	api.broken.Store(false)
	d.waitFor("Sluice v1 · ready")
}

func TestKeys(t *testing.T) {
	d := newDisplay(t, &canned{})
	d.waitFor("quiet")
	focused := func(want int) {
		t.Helper()
		testkit.Until(t, "the list has the focus", func() bool {
			got := make(chan int, 1)
			d.top.app.QueueUpdate(func() { got <- d.top.focus() })
			return testkit.Await(t, got, "the focus") == want
		})
	}
	focused(0)
	d.screen.InjectKey(tcell.KeyTab, 0, tcell.ModNone)
	focused(1)
	d.screen.InjectKey(tcell.KeyRune, 'q', tcell.ModNone)
	if err := testkit.Await(t, d.ended, "the end after q"); err != nil {
		t.Error(err)
	}
}

// t traces the resource or the connection that is selected; Esc leads back to the list.
func TestTrace(t *testing.T) {
	api := &canned{}
	d := newDisplay(t, api)
	d.waitFor("quiet", "abc")
	press := func(k tcell.Key, r rune) { d.screen.InjectKey(k, r, tcell.ModNone) }
	press(tcell.KeyDown, 0)
	press(tcell.KeyRune, 't')
	d.waitFor("Trace of quiet", "event   /api/trace?resource=quiet&seconds=600 [red]?")
	press(tcell.KeyEsc, 0)
	d.waitFor("Hottest resources")
	press(tcell.KeyTab, 0)
	press(tcell.KeyRune, 't')
	d.waitFor("Trace of abc", "/api/trace?cid=abc&seconds=600")
	press(tcell.KeyEsc, 0)
	press(tcell.KeyTab, 0)
	press(tcell.KeyRune, 't')
	d.waitFor("Trace of def", "/api/trace?cid=def&seconds=600")
	press(tcell.KeyEsc, 0)
	testkit.Until(t, "all traces have ended", func() bool { return api.ended.Load() == 3 })
	press(tcell.KeyTab, 0) // loops cannot be traced
	press(tcell.KeyRune, 't')
	press(tcell.KeyTab, 0)
	api.broken.Store(true)
	press(tcell.KeyRune, 't')
	d.waitFor("Trace of quiet", "no ?[31manswer")
	press(tcell.KeyEsc, 0)
	press(tcell.KeyUp, 0)
	press(tcell.KeyRune, 't')
	d.waitFor("Trace of a.[red]b")
	press(tcell.KeyRune, 'q')
	if err := testkit.Await(t, d.ended, "the end after q"); err != nil {
		t.Error(err)
	}
}

func TestEndByContext(t *testing.T) {
	d := newDisplay(t, &canned{})
	d.stop()
	if err := testkit.Await(t, d.ended, "the end of Run"); err != nil {
		t.Error(err)
	}
}

func TestFigures(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 0.5: "0.5", 9.96: "10.0", 42.4: "42", 1500: "1.5k", 2e6: "2M", 3e9: "3.0G"} {
		if got := count(n); got != want {
			t.Errorf("%v: %s, want %s", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 3 << 20: "3 MiB", 5 << 30: "5 GiB"} {
		if got := bytes(n); got != want {
			t.Errorf("%v: %s, want %s", n, got, want)
		}
	}
}
