package cache

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/internal/transcript"
)

var rewrite = flag.Bool("rewrite", false, "replace what the transcripts expect by what the shard does")

// shardLanguage lists the verbs of a shard's transcripts; package transcript describes the form.
//
//	loop L subscribes REF RID           a loop's subscription
//	loop L unsubscribes REF RID
//	loop L backlog N                    the number of messages in the loop's mailbox from now on
//	service > NAME PAYLOAD              publishes event.<name>.<event>, or system.reset
//	service > reply SUBJECT [(PART)] PAYLOAD
//	                                    the reply to the oldest request to SUBJECT (whose payload
//	                                    contains PART)
//	service fails SUBJECT CODE [(PART)] no reply: timeout, noResponders
//	refused NAME                        NATS rejects the subscription to the name's events
//	gap                                 events may have been lost
//	shed on|off                         memory is short, or no longer
//	advance DURATION                    time passes
//	shard [NAME=VALUE ...]              a new shard with these options
//	together ... end                    messages in between are handled in one turn
//
// What the shard does must follow in this order; nothing else may happen:
//
//	subscribed, unsubscribed SUBJECT    a subscription on NATS
//	service < SUBJECT PAYLOAD           a request
//	loop L < REF UPDATE                 an update for a loop
//	logs 1 TEXT                         a log record
//	pending N                           N requests have no reply yet
//	metrics NAME=VALUE ...              counters
var shardLanguage = &transcript.Language{
	Actors: []string{"loop"},
	Blocks: []string{"together"},
	Verbs:  []string{"subscribed", "unsubscribed", "logs", "pending", "metrics", "refused", "gap", "shed", "advance", "shard"},
}

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d transcripts: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			script, err := shardLanguage.Load(file)
			if err != nil {
				t.Fatal(err)
			}
			r := &runner{t: t, script: script, h: newHarness(t, Options{})}
			r.steps(script.Steps)
			r.settle(nil)
			if err := script.Save(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// runner replays one transcript against a shard.
type runner struct {
	t      *testing.T
	script *transcript.Script
	h      *harness
	last   *transcript.Step // the newest step that made the shard do something
	out    []string         // what the shard did and no line has expected yet
}

// errorf fails the test at a step.
func (r *runner) errorf(st *transcript.Step, format string, args ...any) {
	r.t.Helper()
	r.t.Fatalf("%s:%d: %s %s: %s", r.script.File, st.Line, st.Verb, st.Arg, fmt.Sprintf(format, args...))
}

func (r *runner) steps(steps []transcript.Step) {
	for i := range steps {
		st := &steps[i]
		if r.expects(st) {
			continue
		}
		r.settle(st)
		if st.Verb == "together" {
			for j := range st.Body {
				r.do(&st.Body[j])
			}
		} else {
			r.do(st)
		}
		r.h.turns()
		r.last = st
		r.out = append(r.out, strings.Split(strings.TrimSuffix(r.h.said(), "\n"), "\n")...)
		if r.out[len(r.out)-1] == "" {
			r.out = r.out[:len(r.out)-1]
		}
	}
}

// settle fails the test, or completes the transcript, if the shard did more than the lines before
// next expect.
func (r *runner) settle(next *transcript.Step) {
	if len(r.out) == 0 {
		return
	}
	if !*rewrite {
		at := transcript.Step{Line: r.script.Lines(), Verb: "end"}
		if next != nil {
			at = *next
		}
		r.errorf(&at, "before this the shard did\n\t%s", strings.Join(r.out, "\n\t"))
	}
	after := *r.last
	if after.Body != nil {
		after.Lines = after.Body[len(after.Body)-1].Line - after.Line + 2
	}
	r.script.InsertAfter(&after, r.out...)
	r.out = nil
}

// expects handles a step that expects something, and reports whether it is one.
func (r *runner) expects(st *transcript.Step) bool {
	want := st.Verb + " " + st.Arg
	switch st.Verb {
	case "loop <":
		want = fmt.Sprintf("loop %s < %s", st.Actor, st.Arg)
	case "subscribed", "unsubscribed", "service <", "logs":
	case "pending":
		r.compare(st, want, fmt.Sprintf("pending %d", len(r.h.asked)))
		return true
	case "metrics":
		got := "metrics"
		for _, m := range strings.Fields(st.Arg) {
			name, _, _ := strings.Cut(m, "=")
			f := reflect.ValueOf(r.h.s.metrics).Elem().FieldByName(name)
			if !f.IsValid() {
				r.errorf(st, "no counter %s", name)
			}
			got += fmt.Sprintf(" %s=%d", name, f.Addr().Interface().(*atomic.Int64).Load())
		}
		r.compare(st, want, got)
		return true
	default:
		return false
	}
	if *rewrite {
		r.script.Replace(st) // settle writes what the shard did
		return true
	}
	if len(r.out) == 0 {
		r.errorf(st, "the shard did nothing more")
	}
	r.compare(st, want, r.out[0])
	r.out = r.out[1:]
	return true
}

func (r *runner) compare(st *transcript.Step, want, got string) {
	if want == got {
		return
	}
	if *rewrite {
		r.script.Replace(st, got)
		return
	}
	r.errorf(st, "the shard did\n\t%s", got)
}

// do sends a stimulus to the shard.
func (r *runner) do(st *transcript.Step) {
	h := r.h
	words := strings.Fields(st.Arg)
	arg := func(i int) string {
		if i >= len(words) {
			r.errorf(st, "argument %d is missing", i+1)
		}
		return words[i]
	}
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			r.errorf(st, "%v", err)
		}
		return n
	}
	switch st.Verb {
	case "loop subscribes":
		name, query := res.SplitRID(arg(1))
		h.s.Subscribe(number(st.Actor), uint64(number(arg(0))), name, query, nil)
	case "loop unsubscribes":
		name, query := res.SplitRID(arg(1))
		h.s.Unsubscribe(number(st.Actor), uint64(number(arg(0))), name, query)
		delete(h.folded, subKey{number(st.Actor), uint64(number(arg(0)))})
	case "loop backlog":
		h.load[number(st.Actor)] = number(arg(0))
	case "service >":
		r.publish(st)
	case "service fails":
		err := map[string]*res.Error{"timeout": res.ErrTimeout, "noResponders": res.ErrNotFound}[arg(1)]
		part := ""
		if len(words) > 2 {
			part = strings.Trim(words[2], "()")
		}
		if err == nil || !h.answer(arg(0), part, nil, err) {
			r.errorf(st, "no such request, or no such code")
		}
	case "refused":
		h.s.Refused(arg(0), res.InternalError("NATS refuses the subscription"))
	case "gap":
		h.s.ResetAll()
	case "shed":
		h.s.Shed(arg(0) == "on")
	case "advance":
		by, err := time.ParseDuration(arg(0))
		if err != nil {
			r.errorf(st, "%v", err)
		}
		h.advance(by)
	case "shard":
		r.h = newHarness(r.t, r.options(st, words))
	default:
		r.errorf(st, "unknown line")
	}
}

// publish handles "service >".
func (r *runner) publish(st *transcript.Step) {
	h := r.h
	subject, payload, _ := strings.Cut(st.Arg, " ")
	event, isEvent := strings.CutPrefix(subject, "event.")
	switch {
	case subject == "reply":
		to, payload, _ := strings.Cut(payload, " ")
		part := ""
		if strings.HasPrefix(payload, "(") {
			part, payload, _ = strings.Cut(payload[1:], ") ")
		}
		if !h.answer(to, part, []byte(payload), nil) {
			r.errorf(st, "no such request")
		}
	case subject == "system.reset":
		var reset struct{ Resources []string }
		if err := json.NewDecoder(bytes.NewReader([]byte(payload))).Decode(&reset); err != nil {
			r.errorf(st, "%v", err)
		}
		var patterns []res.Pattern
		for _, text := range reset.Resources {
			p, ok := res.ParsePattern(text)
			if !ok {
				r.errorf(st, "bad pattern %s", text)
			}
			patterns = append(patterns, p)
		}
		h.s.Reset(patterns)
	case isEvent:
		dot := strings.LastIndexByte(event, '.')
		if dot < 0 {
			r.errorf(st, "no event")
		}
		h.s.Event(event[:dot], event[dot+1:], []byte(payload), 0)
	default:
		r.errorf(st, "not a subject for a shard")
	}
}

// options returns the options of "shard NAME=VALUE …".
func (r *runner) options(st *transcript.Step, words []string) Options {
	var opt Options
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		n, err := strconv.Atoi(value)
		if err != nil {
			r.errorf(st, "option %s: %v", w, err)
		}
		if name == "throttle" {
			opt.ResetThrottle = owner.NewThrottle(n)
			continue
		}
		f := reflect.ValueOf(&opt).Elem().FieldByName(name)
		if !f.IsValid() {
			r.errorf(st, "no option %s", name)
		}
		f.SetInt(int64(n))
	}
	return opt
}
