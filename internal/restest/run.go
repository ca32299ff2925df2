package restest

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/internal/owner"
	"sluice/internal/transcript"
)

// Gateway is what a transcript needs of the gateway under test.
type Gateway interface {
	URL() string // ws://host:port/path
	Stop()
}

// Start has the options of a gateway for one transcript.
type Start struct {
	NATS     string
	Settings map[string]string
	Clock    *owner.ManualClock
	Log      *slog.Logger
}

// Env is the environment of transcripts: a NATS server and a function that starts gateways on it.
type Env struct {
	NATS       string
	Subscribed func(subject string) bool // whether NATS has a subscription on exactly that subject; may be nil
	Start      func(Start) (Gateway, error)
	Watchdog   time.Duration // real time after which a missing message counts as missing
	Rewrite    bool          // replace client expectations that differ instead of failing
}

// session is one run of one transcript: it runs the lines. The rest of its state belongs to its
// parts.
type session struct {
	*shared
	*sockets
	*web

	script   *transcript.Script
	visible  int // the latest ID of the requests behind "subscribes"
	depth    int // of loops
	rewrote  bool
	deafAuth bool
}

// Run replays a transcript. The error names the line, what it expects and what was received.
func (e Env) Run(script *transcript.Script) error {
	sh := &shared{env: e, clock: owner.NewManualClock(), logs: &logBook{}, wake: make(chan struct{}, 1),
		vars:   map[string]string{"long": strings.Repeat("a", 5000), "badutf8": "\xff", "blank": " \t\r\n"},
		nextID: hiddenIDs}
	sock := newSockets(sh)
	s := &session{shared: sh, sockets: sock, web: newWeb(sh, sock), script: script, visible: 1_000_000}
	var err error
	if s.service, err = NewService(e.NATS, s.notify); err != nil {
		return err
	}
	defer s.service.Close()
	s.gateway, err = e.Start(Start{NATS: e.NATS, Settings: script.Settings, Clock: s.clock, Log: slog.New(s.logs)})
	if err != nil {
		return fmt.Errorf("%s: the gateway did not start: %w", script.File, err)
	}
	defer s.gateway.Stop()
	defer func() {
		s.sockets.cut()
		s.web.cut()
	}()
	if err = s.steps(script.Steps); err == nil {
		last := transcript.Step{Line: script.Lines(), Verb: "quiet"}
		if n := len(script.Steps); n == 0 || script.Steps[n-1].Verb != "quiet" {
			err = s.step(&last)
		}
	}
	if err == nil {
		if err = s.unanswered(); err != nil {
			err = &verdict{script.File + ": " + err.Error()}
		}
	}
	if err == nil && s.rewrote {
		err = script.Save()
	}
	return err
}

// steps runs steps in order and turns an error into the transcript's verdict.
func (s *session) steps(steps []transcript.Step) error {
	for i := range steps {
		if err := s.step(&steps[i]); err != nil {
			return err
		}
	}
	return nil
}

// verdict is an error that already names its line.
type verdict struct{ text string }

func (v *verdict) Error() string { return v.text }

func (s *session) step(st *transcript.Step) error {
	err := s.do(st)
	var v *verdict
	if err == nil || errors.As(err, &v) {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d: %s %s: %v\n", s.script.File, st.Line, st.Verb, clip(st.Arg), err)
	from := max(0, len(s.trace)-40)
	b.WriteString("so far:\n")
	for _, t := range s.trace[from:] {
		fmt.Fprintf(&b, "    %s\n", clip(t))
	}
	for _, w := range s.unexpected() {
		fmt.Fprintf(&b, "  + %s\n", clip(w))
	}
	for _, l := range s.logs.last(10) {
		fmt.Fprintf(&b, "  log %s\n", clip(l))
	}
	return &verdict{b.String()}
}

func clip(t string) string {
	if len(t) > 1500 {
		return t[:700] + " … " + t[len(t)-700:]
	}
	return t
}

// unexpected lists the messages that no line expects.
func (s *session) unexpected() []string {
	var all []string
	for _, name := range s.order {
		c := s.clients[name]
		for _, m := range c.Waiting() {
			all = append(all, "client "+name+" received "+m)
		}
		if code, closed := c.Closed(); closed && !s.ended[name] {
			all = append(all, fmt.Sprintf("client %s was closed with %d", name, code))
		}
	}
	for _, name := range s.httpOrder {
		all = append(all, s.leftOver(s.https[name])...)
	}
	for _, r := range s.service.Waiting() {
		all = append(all, "service received "+r)
	}
	return all
}

var variable = regexp.MustCompile(`\$(cid\.\w+|\w+)`)

// expand replaces variables and remembers the resource names that a text mentions.
func (s *session) expand(text string) (string, error) {
	var err error
	text = variable.ReplaceAllStringFunc(text, func(v string) string {
		name := v[1:]
		if client, ok := strings.CutPrefix(name, "cid."); ok && s.vars[name] == "" {
			if s.vars[name], err = s.learnCID(client); err != nil {
				return v
			}
		}
		if value, ok := s.vars[name]; ok {
			return value
		}
		return v
	})
	s.learnNames(text)
	return text, err
}

func (s *session) do(st *transcript.Step) error {
	switch st.Verb {
	case "repeat":
		n, err := strconv.Atoi(st.Arg)
		if err != nil {
			return err
		}
		return s.loop(st, n, func(int) error { return nil })
	case "each":
		return s.each(st)
	case "any":
		return s.anyOrder(st)
	case "client upgrades", "client early", "client leaves", "client accepted", "client refused":
		return s.upgrade(st)
	}
	if strings.HasPrefix(st.Verb, "http ") {
		return s.http(st)
	}
	arg, err := s.expand(st.Arg)
	if err != nil {
		return err
	}
	switch st.Verb {
	case "service <":
		return s.expectRequest(arg)
	case "service >":
		return s.serviceSends(arg)
	case "service answers":
		return s.serviceAnswers(arg)
	case "waits":
		return s.waits(arg)
	case "service deaf":
		s.deafAuth = s.deafAuth || arg == "auth.>"
		return s.service.Deaf(arg)
	case "service listens":
		s.deafAuth = s.deafAuth && arg != "auth.>"
		return s.service.Listen(arg)
	case "subscribed", "unsubscribed":
		want := st.Verb == "subscribed"
		if s.env.Subscribed == nil {
			return errors.New("this environment cannot look into NATS")
		}
		if subject, now := strings.CutPrefix(arg, "now "); now {
			if s.env.Subscribed(subject) != want {
				return fmt.Errorf("not %s", st.Verb)
			}
			return nil
		}
		if !s.wait(func() bool { return s.env.Subscribed(arg) == want }) {
			return fmt.Errorf("want %s", st.Verb)
		}
		return nil
	case "advance":
		d, err := time.ParseDuration(arg)
		if err != nil {
			return err
		}
		s.note("advance %v", d)
		return s.advance(d)
	case "differ":
		words := strings.Fields(arg)
		slices.Sort(words)
		if len(slices.Compact(slices.Clone(words))) < len(words) {
			return errors.New("two are the same")
		}
		return nil
	case "quiet":
		words := strings.Fields(arg)
		weak := len(words) > 0 && words[0] == "auth"
		if weak {
			words = words[1:]
		}
		return s.quiet(!weak, words)
	case "logs":
		count, text, _ := strings.Cut(arg, " ")
		n, err := strconv.Atoi(count)
		if err != nil {
			return err
		}
		s.wait(func() bool { return s.logs.count(text) >= n })
		if err := s.settle(false, nil); err != nil {
			return err
		}
		if got := s.logs.count(text); got != n {
			return fmt.Errorf("%d log records contain %q, want %d", got, text, n)
		}
		return nil
	}
	if strings.HasPrefix(st.Verb, "client ") {
		return s.client(st, arg)
	}
	return fmt.Errorf("unknown line")
}

// each runs a block once for each line of values. Of several names each has a word, the last one
// the rest.
func (s *session) each(st *transcript.Step) error {
	names := strings.Fields(st.Arg)
	for _, name := range names {
		outer, had := s.vars[name]
		defer func() {
			if s.vars[name] = outer; !had {
				delete(s.vars, name)
			}
		}()
	}
	return s.loop(st, len(st.Values), func(i int) (err error) {
		rest := st.Values[i]
		for k, name := range names {
			word := rest
			if k < len(names)-1 {
				word, rest, _ = strings.Cut(rest, " ")
				rest = strings.TrimSpace(rest)
			}
			if s.vars[name], err = s.expand(word); err != nil {
				return err
			}
		}
		return nil
	})
}

// loop runs a block n times; $n counts from 1.
func (s *session) loop(st *transcript.Step, n int, bind func(i int) error) error {
	outer, had := s.vars["n"]
	s.depth++
	defer func() {
		s.depth--
		if s.vars["n"] = outer; !had {
			delete(s.vars, "n")
		}
	}()
	for i := range n {
		s.vars["n"] = strconv.Itoa(i + 1)
		if err := bind(i); err != nil {
			return err
		}
		if err := s.steps(st.Body); err != nil {
			return fmt.Errorf("%w(pass %d of %s %s)", err, i+1, st.Verb, st.Arg)
		}
	}
	return nil
}

func (s *session) client(st *transcript.Step, arg string) error {
	name := st.Actor
	c := s.clients[name]
	if st.Verb == "client connects" {
		return s.connect(name, arg)
	}
	if c == nil {
		return fmt.Errorf("client %s is not connected", name)
	}
	switch st.Verb {
	case "client >":
		return s.send(c, arg)
	case "client >binary":
		s.note("client %s >binary %s", name, arg)
		s.views[name].Sent(arg)
		return c.SendBinary(arg)
	case "client <":
		m, err := s.receive(c)
		if err != nil {
			return err
		}
		if err := Match(arg, m); err != nil {
			if s.env.Rewrite && s.depth == 0 && !strings.Contains(st.Arg, "$") {
				s.script.Replace(st, "client "+name+" < "+m)
				s.rewrote = true
				return nil
			}
			return fmt.Errorf("the message differs\n%w\ngot %s", err, m)
		}
		return nil
	case "client disconnects":
		s.ended[name] = true
		c.Cut()
		return nil
	case "client closes":
		code, err := strconv.Atoi(arg)
		if err != nil {
			return err
		}
		s.ended[name] = true
		if err := c.Close(code); err != nil {
			return err
		}
		return s.closedWith(c, code)
	case "client closed":
		code, err := strconv.Atoi(arg)
		if err != nil {
			return err
		}
		s.ended[name] = true
		return s.closedWith(c, code)
	case "client subscribes":
		return s.subscribes(c, st, arg)
	case "client turns":
		return s.turns(c, arg)
	case "client holds":
		return s.holds(c, arg)
	case "client drains":
		return s.drains(c)
	}
	return fmt.Errorf("unknown client line")
}

// advance advances the clock by d. Each alarm fires at its own time, as in a process that is not
// stopped.
func (s *session) advance(d time.Duration) error {
	for end := s.clock.Now() + d; ; {
		// An owner whose turn comes late finds its deadlines long passed, and defers them.
		if !s.wait(s.clock.Handled) {
			return errors.New("an owner does not handle its alarm")
		}
		if err := s.settle(false, nil); err != nil {
			return err
		}
		if !s.wait(s.clock.Handled) {
			return errors.New("an owner does not end its turn")
		}
		now := s.clock.Now()
		at, ok := s.clock.Next()
		if !ok || at >= end {
			s.clock.Advance(end - now)
			return nil
		}
		s.clock.Advance(max(at-now, 0))
	}
}
