package top

import (
	"context"
	"encoding/json"
	"net/url"

	"github.com/rivo/tview"

	"sluice/internal/livetrace"
)

// maxTraced is how many lines of a trace stay.
const maxTraced = 1000

// tracing is the view of a live trace, which takes the place of the lists while one is on. It
// belongs to the goroutine of Run.
type tracing struct {
	view *tview.TextView
	end  context.CancelFunc // of the trace that is on; nil: none
}

const traceKeys = "Esc ends the trace · arrows scroll, End follows"

// startTrace shows what passes of the selected resource or connection, or of the selected
// request's connection.
func (t *Top) startTrace() {
	row, _ := t.lists[t.focus()].GetSelection()
	q, what := url.Values{"seconds": {"600"}}, ""
	switch at := row - 1; {
	case t.shown == nil || at < 0:
		return
	case t.focus() == 0 && at < len(t.shown.hot.Resources):
		what = t.shown.hot.Resources[at].Name
		q.Set("resource", what)
	case t.focus() == 1 && at < len(t.shown.slow.Connections):
		what = t.shown.slow.Connections[at].CID
		q.Set("cid", what)
	case t.focus() == 2 && at < len(t.shown.requests.Requests):
		what = t.shown.requests.Requests[at].CID
		q.Set("cid", what)
	default:
		return
	}
	view := tview.NewTextView().SetMaxLines(maxTraced).SetWrap(false).ScrollToEnd()
	view.SetBorder(true).SetTitle(" Trace of " + tview.Escape(tame(what)) + " ").SetTitleAlign(tview.AlignLeft)
	view.SetText(traceKeys + "\n")
	ctx, cancel := context.WithCancel(t.ctx)
	t.tracing = tracing{view, cancel}
	t.pages.AddAndSwitchToPage(tracePage, view, true)
	go func() {
		err := t.api.Stream(ctx, "/api/trace?"+q.Encode(), func(line []byte) error {
			var l livetrace.Line
			if err := json.Unmarshal(line, &l); err != nil {
				return err
			}
			t.add(ctx, view, l.String())
			return ctx.Err()
		})
		if err != nil {
			t.add(ctx, view, tame(err.Error()))
		}
	}()
}

// add adds a line to the view of a trace, unless the trace has been ended. It waits until the line
// is there: a slow terminal makes a slow reader, which the gateway does not wait for.
func (t *Top) add(ctx context.Context, view *tview.TextView, line string) {
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		t.app.QueueUpdateDraw(func() { _, _ = view.Write([]byte(line + "\n")) })
	}()
	await(ctx, shown)
}

// endTrace returns to the lists.
func (t *Top) endTrace() {
	t.tracing.end()
	t.tracing = tracing{}
	t.pages.RemovePage(tracePage)
	t.app.SetFocus(t.lists[t.at])
}
