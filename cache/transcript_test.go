package cache

import (
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"sluice/internal/owner"
	"sluice/internal/res"
)

// TestTranscripts runs the files in testdata. Each is a script of what reaches a shard, with what the shard then does:
//
//	subscribe <loop> <ref> <rid>        a loop's subscribe
//	unsubscribe <loop> <ref> <rid>
//	event <name> <event>                an event with the payload below
//	answer <subject> [<part>]           the answer below to the oldest request to subject (with part in its payload)
//	fail <subject> <code> [<part>]      no answer: timeout, noResponders
//	reset <pattern>…                    system.reset
//	gap                                 events may have been lost
//	advance <duration>                  time passes
//	backlog <loop> <n>                  the loop's backlog from now on
//	hold, go                            what comes between the two is handled in one turn
//	options <name>=<value>…             a new shard
//	metrics <name>…                     counters
//	asked                               requests without an answer
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		h := newHarness(t, Options{})
		holding := false
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			h.t = t
			var args []string
			for _, a := range d.CmdArgs {
				args = append(args, a.String())
			}
			arg := func(i int) string {
				if i < len(args) {
					return args[i]
				}
				return ""
			}
			number := func(i int) (n int) {
				if _, err := fmt.Sscan(arg(i), &n); err != nil {
					d.Fatalf(t, "argument %d is no number", i)
				}
				return n
			}
			switch d.Cmd {
			case "subscribe":
				name, query := res.SplitRID(arg(2))
				h.s.Subscribe(number(0), uint64(number(1)), name, query)
			case "unsubscribe":
				name, query := res.SplitRID(arg(2))
				h.s.Unsubscribe(number(0), uint64(number(1)), name, query)
				delete(h.folded, subKey{number(0), uint64(number(1))})
			case "event":
				h.s.Event(arg(0), arg(1), []byte(d.Input))
			case "answer":
				if !h.answer(arg(0), arg(1), []byte(d.Input), nil) {
					return "nobody asked\n"
				}
			case "fail":
				err := map[string]*res.Error{"timeout": res.ErrTimeout, "noResponders": res.ErrNotFound}[arg(1)]
				if !h.answer(arg(0), arg(2), nil, err) {
					return "nobody asked\n"
				}
			case "reset":
				var patterns []res.Pattern
				for _, a := range args {
					p, ok := res.ParsePattern(a)
					if !ok {
						d.Fatalf(t, "bad pattern %s", a)
					}
					patterns = append(patterns, p)
				}
				h.s.Reset(patterns)
			case "gap":
				h.s.ResetAll()
			case "advance":
				by, err := time.ParseDuration(arg(0))
				if err != nil {
					d.Fatalf(t, "%v", err)
				}
				h.advance(by)
			case "backlog":
				h.load[number(0)] = number(1)
			case "hold":
				holding = true
			case "go":
				holding = false
			case "options":
				var opt Options
				for _, a := range args {
					name, value, _ := strings.Cut(a, "=")
					var n int
					if _, err := fmt.Sscan(value, &n); err != nil {
						d.Fatalf(t, "option %s: %v", a, err)
					}
					switch name {
					case "throttle":
						opt.ResetThrottle = owner.NewThrottle(n)
					default:
						f := reflect.ValueOf(&opt).Elem().FieldByName(name)
						if !f.IsValid() {
							d.Fatalf(t, "no option %s", name)
						}
						f.SetInt(int64(n))
					}
				}
				h = newHarness(t, opt)
			case "metrics":
				for _, a := range args {
					f := reflect.ValueOf(h.s.metrics).Elem().FieldByName(a)
					if !f.IsValid() {
						d.Fatalf(t, "no counter %s", a)
					}
					h.say("%s %d", a, f.Addr().Interface().(*atomic.Int64).Load())
				}
			case "asked":
				for _, a := range h.asked {
					h.say("%s %s", a.subject, a.payload)
				}
			default:
				d.Fatalf(t, "no command %s", d.Cmd)
			}
			if !holding {
				h.turns()
			}
			if out := h.said(); out != "" {
				return out
			}
			return "nothing\n"
		})
	})
}
