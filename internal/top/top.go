// Package top shows in a terminal what a gateway is doing: the lists of the admin page, over the
// same API.
//
// It never changes what the gateway does. What it shows comes from outside, so it is printed
// without control characters and without tview's markup.
package top

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/gdamore/tcell/v2"
	"github.com/rivo/tview"

	"sluice/internal/admin"
)

// API answers as the admin port does.
type API interface {
	GetJSON(ctx context.Context, path string, v any) error
	Stream(ctx context.Context, path string, f func(line []byte) error) error
}

const (
	// Interval is how often the lists are refreshed.
	Interval = 2 * time.Second
	// rows is how many resources, clients and requests are asked for.
	rows = 50
	// answerWithin bounds one round of questions.
	answerWithin = 10 * time.Second
)

// Top is the display. Its views belong to the goroutine of Run.
type Top struct {
	api   API
	every time.Duration
	app   *tview.Application

	head   *tview.TextView
	lists  []*tview.Table
	pages  *tview.Pages    // the lists, or a trace
	before *admin.Overview // of the last round
	shown  *round          // the last round; nil: none yet
	at     int             // the list that keys move in
	ctx    context.Context // of Run

	tracing tracing
}

const (
	listPage  = "lists"
	tracePage = "trace"
)

// New returns a display that asks every so often. screen is the terminal; nil: that of the process.
func New(api API, every time.Duration, screen tcell.Screen) *Top {
	t := &Top{api: api, every: every, app: tview.NewApplication(), head: tview.NewTextView()}
	if screen != nil {
		t.app.SetScreen(screen)
	}
	page := tview.NewFlex().SetDirection(tview.FlexRow).AddItem(t.head, 4, 0, false)
	for i, title := range []string{" Hottest resources ", " Slowest clients ", " Oldest requests ", " Event loops and cache shards "} {
		list := tview.NewTable().SetFixed(1, 0).SetSelectable(true, false)
		list.SetBorder(true).SetTitle(title).SetTitleAlign(tview.AlignLeft)
		t.lists = append(t.lists, list)
		page.AddItem(list, 0, 3-i/2, i == 0)
	}
	t.pages = tview.NewPages().AddPage(listPage, page, true, true)
	t.app.SetRoot(t.pages, true)
	t.app.SetInputCapture(func(e *tcell.EventKey) *tcell.EventKey {
		on := t.tracing.end != nil
		switch {
		case e.Rune() == 'q':
			t.app.Stop()
			return nil
		case on && e.Key() == tcell.KeyEsc:
			t.endTrace()
			return nil
		case on:
		case e.Key() == tcell.KeyTab:
			t.at = (t.focus() + 1) % len(t.lists)
			t.app.SetFocus(t.lists[t.at])
			return nil
		case e.Rune() == 't':
			t.at = t.focus()
			t.startTrace()
			return nil
		}
		return e
	})
	t.head.SetText("asking the gateway …")
	return t
}

// focus returns the index of the list that keys move in.
func (t *Top) focus() int {
	for i, l := range t.lists {
		if l.HasFocus() {
			return i
		}
	}
	return 0
}

// Run shows the display until q or Ctrl-C, or the end of ctx.
func (t *Top) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	t.ctx = ctx
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		t.poll(ctx)
	}()
	over := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
			t.app.QueueUpdate(t.app.Stop) // also if Run has yet to begin
		case <-over:
		}
	}()
	err := t.app.Run()
	close(over)
	cancel()
	<-asked
	return err
}

// round is what one round of questions gives.
type round struct {
	overview admin.Overview
	hot      admin.ResourceList
	slow     admin.ConnectionList
	requests admin.RequestList
}

// poll asks until ctx ends.
func (t *Top) poll(ctx context.Context) {
	next := time.NewTicker(t.every)
	defer next.Stop()
	for {
		r, err := t.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		// The next round waits for the terminal to show this one, so that a slow terminal has one
		// to show. After the end nothing takes it.
		shown := make(chan struct{})
		go func() {
			defer close(shown)
			t.app.QueueUpdateDraw(func() {
				if err != nil {
					t.head.SetText(fmt.Sprintf("%s\n%s\n\n%s", time.Now().Format(time.TimeOnly), tame(err.Error()), keys))
					return
				}
				t.show(r)
			})
		}()
		if !await(ctx, shown) || !await(ctx, next.C) {
			return
		}
	}
}

// await returns when c yields or is closed, or with false when ctx ends.
func await[T any](ctx context.Context, c <-chan T) bool {
	select {
	case <-c:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t *Top) ask(ctx context.Context) (r *round, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	r = new(round)
	if err = t.api.GetJSON(ctx, "/api/overview", &r.overview); err != nil {
		return nil, err
	}
	if err = t.api.GetJSON(ctx, fmt.Sprintf("/api/resources?limit=%d", rows), &r.hot); err != nil {
		return nil, err
	}
	if err = t.api.GetJSON(ctx, fmt.Sprintf("/api/connections?limit=%d", rows), &r.slow); err != nil {
		return nil, err
	}
	if err = t.api.GetJSON(ctx, fmt.Sprintf("/api/requests?limit=%d", rows), &r.requests); err != nil {
		return nil, err
	}
	return r, nil
}

const keys = "q quits · Tab changes the list · arrows scroll · t traces what is selected"

// show replaces what the views show.
func (t *Top) show(r *round) {
	o := &r.overview
	state := "ready"
	switch {
	case o.Draining:
		state = "draining"
	case o.NotReady != "":
		state = "not ready: " + o.NotReady
	}
	per := func(f func(*admin.Totals) uint64) string {
		if t.before == nil || o.Time <= t.before.Time || o.UptimeMs < t.before.UptimeMs {
			return "–"
		}
		return count(float64(f(&o.Totals)-f(&t.before.Totals)) * 1000 / float64(o.Time-t.before.Time))
	}
	t.head.SetText(fmt.Sprintf("Sluice %s · %s · up %v\n"+
		"%s deliveries/s · %s events/s · %s messages/s · %s requests/s · %s out/s\n"+
		"%d WebSockets, %d streams, %d slow · %d subscriptions · memory %s, cache %s, backlog %s\n%s",
		tame(o.Version), tame(state), (time.Duration(o.UptimeMs) * time.Millisecond).Round(time.Second),
		per(func(n *admin.Totals) uint64 { return n.Deliveries }), per(func(n *admin.Totals) uint64 { return n.Events }),
		per(func(n *admin.Totals) uint64 { return n.Messages }), per(func(n *admin.Totals) uint64 { return n.ServiceRequests }),
		per(func(n *admin.Totals) uint64 { return n.BytesOut }),
		o.Connections.WebSocket, o.Connections.Streams, o.Connections.Slow, o.Now.Subscriptions,
		bytes(o.Memory.Live), bytes(o.Now.CacheBytes), bytes(o.Now.BacklogBytes), keys))
	hot := [][]string{{"DELIVERIES/S", "SUBSCRIBERS", "RESOURCE"}}
	for _, x := range r.hot.Resources {
		name := x.Name
		if x.Query != "" {
			name += "?" + x.Query
		}
		hot = append(hot, []string{count(x.Deliveries), count(float64(x.Subscribers)), name})
	}
	slow := [][]string{{"QUEUED", "STALLED", "REQUESTS", "SUBSCRIPTIONS", "ADDRESS", "CONNECTION"}}
	for _, c := range r.slow.Connections {
		slow = append(slow, []string{
			bytes(int64(c.Queued)), (time.Duration(c.StalledMs) * time.Millisecond).String(), fmt.Sprint(c.Requests), count(float64(c.Subscriptions)), c.Remote, c.CID,
		})
	}
	requests := [][]string{{"AGE", "STATE", "REQUEST", "RESOURCE", "METHOD", "WAITS FOR", "CONNECTION"}}
	for _, q := range r.requests.Requests {
		requests = append(requests, []string{(time.Duration(q.AgeMs) * time.Millisecond).String(), q.State, q.Type, q.RID, q.Method, q.Subject, q.CID})
	}
	owners := [][]string{{"LOAD", "ANSWERS AFTER", "MAILBOX", "CONNECTIONS", "TOPICS", "OWNER"}}
	answer := func(micros int64, late bool) string {
		if late {
			return "late"
		}
		return (time.Duration(micros) * time.Microsecond).String()
	}
	for _, l := range o.Loops {
		owners = append(owners, []string{t.load(o, l.Index, l.BusyMs), answer(l.DelayMicros, l.Late), fmt.Sprint(l.Mailbox), count(float64(l.Connections)), count(float64(l.Topics)), fmt.Sprintf("event loop %d", l.Index)})
	}
	for _, s := range o.Shards {
		owners = append(owners, []string{"", answer(s.DelayMicros, s.Late), fmt.Sprint(s.Mailbox), "", "", fmt.Sprintf("cache shard %d", s.Index)})
	}
	for i, table := range [][][]string{hot, slow, requests, owners} {
		fill(t.lists[i], table)
	}
	t.before, t.shown = o, r
}

// load returns the part of the time since the round before in which a loop was busy.
func (t *Top) load(o *admin.Overview, index int, busyMs int64) string {
	if t.before == nil || o.Time <= t.before.Time {
		return "–"
	}
	for _, l := range t.before.Loops {
		if l.Index == index && busyMs >= l.BusyMs {
			return fmt.Sprintf("%d%%", min(100*(busyMs-l.BusyMs)/(o.Time-t.before.Time), 100))
		}
	}
	return "–"
}

// fill replaces the rows of a list, of which the first is the head. The selection stays.
func fill(list *tview.Table, table [][]string) {
	for list.GetRowCount() > len(table) {
		list.RemoveRow(list.GetRowCount() - 1)
	}
	for i, row := range table {
		for j, text := range row {
			cell := tview.NewTableCell(tview.Escape(tame(text)) + "  ")
			if i == 0 {
				cell.SetSelectable(false).SetAttributes(tcell.AttrBold)
			}
			list.SetCell(i, j, cell)
		}
	}
}

// tame returns a text without control characters, which a terminal would obey.
func tame(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// count returns a number with three digits or so.
func count(n float64) string {
	for _, unit := range []string{"", "k", "M"} {
		switch {
		case n < 10 && n != float64(int(n)):
			return fmt.Sprintf("%.1f%s", n, unit)
		case n < 1000:
			return fmt.Sprintf("%.0f%s", n, unit)
		}
		n /= 1000
	}
	return fmt.Sprintf("%.1fG", n)
}

func bytes(n int64) string {
	v := float64(n)
	for _, unit := range []string{"B", "KiB", "MiB"} {
		if v < 1024 {
			return fmt.Sprintf("%.4g %s", v, unit)
		}
		v /= 1024
	}
	return fmt.Sprintf("%.4g GiB", v)
}
