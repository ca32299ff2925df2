package restest

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sluice/internal/resmodel"
	"sluice/internal/transcript"
)

var requestName = regexp.MustCompile(`(?:^| )as (\w+)$`)

// expectRequest handles "service < SUBJECT [PATTERN] [as NAME]".
func (s *session) expectRequest(arg string) error {
	name := ""
	if m := requestName.FindStringSubmatch(arg); m != nil {
		name, arg = m[1], strings.TrimSuffix(arg, m[0])
	}
	subject, pattern, _ := strings.Cut(arg, " ")
	r, err := s.takeRequest(subject, strings.TrimSpace(pattern))
	if err != nil {
		return err
	}
	r.Name = name
	var from struct{ CID string }
	if name != "" && json.Unmarshal([]byte(r.Data), &from) == nil && from.CID != "" {
		s.vars["cid."+name] = from.CID
	}
	return nil
}

func (s *session) takeRequest(subject, pattern string) (*Request, error) {
	var fits func(string) error
	if pattern != "" {
		fits = func(data string) error { return Match(pattern, data) }
	}
	var r *Request
	var misfits []string
	if !s.wait(func() bool { r, misfits = s.service.Take(subject, fits); return r != nil }) {
		if len(misfits) > 0 {
			return nil, fmt.Errorf("requests to %s were received, but none matches:\n%s", subject, strings.Join(misfits, "\n"))
		}
		return nil, fmt.Errorf("no request to %s was received", subject)
	}
	s.note("service < %s %s", r.Subject, r.Data)
	return r, nil
}

// serviceSends handles "service > SUBJECT [PAYLOAD]" and "service > reply SUBJECT PAYLOAD".
func (s *session) serviceSends(arg string) error {
	s.note("service > %s", arg)
	subject, payload, _ := strings.Cut(arg, " ")
	if subject != "reply" {
		return s.service.Publish(subject, strings.TrimSpace(payload))
	}
	subject, payload, _ = strings.Cut(strings.TrimSpace(payload), " ")
	return s.service.Reply(subject, strings.TrimSpace(payload))
}

// serviceAnswers handles "service answers [all] PREFIX PAYLOAD".
func (s *session) serviceAnswers(arg string) error {
	rest, all := strings.CutPrefix(arg, "all ")
	prefix, payload, _ := strings.Cut(rest, " ")
	for {
		var r *Request
		received := false
		s.wait(func() bool {
			if r = s.service.TakeAny(prefix); r != nil {
				return true
			}
			for _, c := range s.clients {
				received = received || all && len(c.Waiting()) > 0
			}
			return received
		})
		if r == nil {
			if received {
				return nil
			}
			return fmt.Errorf("no request to %s… was received", prefix)
		}
		s.note("service < %s %s, answered %s", r.Subject, r.Data, payload)
		if err := s.service.Answer(r, payload); err != nil || !all {
			return err
		}
	}
}

// waits handles "waits N PREFIX".
func (s *session) waits(arg string) error {
	count, prefix, _ := strings.Cut(arg, " ")
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	if err := s.settle(true, nil); err != nil {
		return err
	}
	all := s.unexpected()
	for _, w := range all {
		if !strings.HasPrefix(w, "service received "+prefix) {
			return fmt.Errorf("unexpected: %s", w)
		}
	}
	if len(all) != n {
		return fmt.Errorf("%d requests wait, want %d", len(all), n)
	}
	return nil
}

// anyOrder handles the client lines of an any block: for each client, its next messages must be
// those of the block, in any order.
func (s *session) anyOrder(st *transcript.Step) error {
	patterns := map[string][]string{}
	var clients []string
	for _, b := range st.Body {
		if b.Verb != "client <" {
			return fmt.Errorf("only \"client x <\" lines may stand in an any block")
		}
		p, err := s.expand(b.Arg)
		if err != nil {
			return err
		}
		if !slices.Contains(clients, b.Actor) {
			clients = append(clients, b.Actor)
		}
		patterns[b.Actor] = append(patterns[b.Actor], p)
	}
	for _, name := range clients {
		c := s.clients[name]
		if c == nil {
			return fmt.Errorf("client %s is not connected", name)
		}
		var messages []string
		for range patterns[name] {
			m, err := s.receive(c)
			if err != nil {
				return fmt.Errorf("client %s, after %d of %d messages: %w", name, len(messages), len(patterns[name]), err)
			}
			messages = append(messages, m)
		}
		if !assign(patterns[name], messages) {
			return fmt.Errorf("client %s received\n%s\nwhich are not, in any order,\n%s", name,
				strings.Join(messages, "\n"), strings.Join(patterns[name], "\n"))
		}
	}
	return nil
}

// assign reports whether messages and patterns can be matched one to one.
func assign(patterns, messages []string) bool {
	if len(patterns) == 0 {
		return len(messages) == 0
	}
	for i, m := range messages {
		if Match(patterns[0], m) == nil && assign(patterns[1:], slices.Delete(slices.Clone(messages), i, i+1)) {
			return true
		}
	}
	return false
}

var described = regexp.MustCompile(`^(cached |held )?(\S+) (.*?)(?: as (\S+))?$`)

// subscribes handles "client a subscribes RID VALUE" with its indented references: the whole
// exchange. The reply for a query resource has its own query as the normalised one, or the query
// after "as".
func (s *session) subscribes(c *Client, st *transcript.Step, arg string) error {
	models, collections := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	s.visible++
	id := strconv.Itoa(s.visible)
	var access *Request
	for i, line := range append([]string{arg}, st.More...) {
		line, err := s.expand(line)
		if err != nil {
			return err
		}
		m := described.FindStringSubmatch(line)
		if m == nil || !json.Valid([]byte(m[3])) {
			return fmt.Errorf("want [cached|held] RID VALUE, got %q", line)
		}
		rid, value := m[2], m[3]
		name, query, hasQuery := strings.Cut(rid, "?")
		s.learnName(name)
		fits := ""
		if hasQuery {
			fits = `{"query":` + strconv.Quote(query) + `,...}`
		}
		if i == 0 {
			if err := s.send(c, `{"id":`+id+`,"method":"subscribe.`+rid+`"}`); err != nil {
				return err
			}
			if access, err = s.takeRequest("access."+name, fits); err != nil {
				return err
			}
		}
		member := "collection"
		if value[0] == '{' {
			member = "model"
		}
		if m[1] == "" {
			get, err := s.takeRequest("get."+name, fits)
			if err != nil {
				return err
			}
			answer := `{"result":{"` + member + `":` + value
			switch {
			case m[4] != "":
				answer += `,"query":` + strconv.Quote(m[4])
			case hasQuery:
				answer += `,"query":` + strconv.Quote(query)
			}
			if err := s.service.Answer(get, answer+`}}`); err != nil {
				return err
			}
		}
		if m[1] != "held " {
			map[string]map[string]json.RawMessage{"model": models, "collection": collections}[member][rid] = json.RawMessage(value)
		}
		if i == 0 {
			if err := s.service.Answer(access, `{"result":{"get":true,"call":"*"}}`); err != nil {
				return err
			}
		}
	}
	set := map[string]any{}
	if len(models) > 0 {
		set["models"] = models
	}
	if len(collections) > 0 {
		set["collections"] = collections
	}
	got, err := s.receive(c)
	if err != nil {
		return err
	}
	want, err := json.Marshal(set)
	if err != nil {
		return err
	}
	if err := Match(`{"id":`+id+`,"result":`+string(want)+`}`, got); err != nil {
		return fmt.Errorf("the answer to subscribe differs\n%w\ngot %s", err, got)
	}
	return nil
}

var turning = regexp.MustCompile(`^(\S+) (.+) into (.+) by (\d+)$`)

// turns handles "client a turns RID FROM into TO by N": the gateway chooses the events of this
// change.
func (s *session) turns(c *Client, arg string) error {
	m := turning.FindStringSubmatch(arg)
	if m == nil {
		return errors.New("want RID FROM into TO by N")
	}
	state, err := resmodel.Decode(m[2])
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(m[4])
	for range n {
		text, err := s.receive(c)
		if err != nil {
			return err
		}
		var ev struct {
			Event string
			Data  json.RawMessage
		}
		if err := json.Unmarshal([]byte(text), &ev); err != nil {
			return err
		}
		name, ok := strings.CutPrefix(ev.Event, m[1]+".")
		if !ok {
			return fmt.Errorf("not an event of %s: %s", m[1], text)
		}
		if state, err = resmodel.Fold(state, name, ev.Data, false); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return Match(m[3], resmodel.Encode(state))
}

// holds handles "client a holds RID VALUE" and "client a holds RID nothing".
func (s *session) holds(c *Client, arg string) error {
	return holds(s.views[c.Name], arg)
}

func holds(v *resmodel.View, arg string) error {
	if v == nil {
		return errors.New("no message was received")
	}
	rid, want, _ := strings.Cut(arg, " ")
	got, ok := v.Value(rid)
	switch {
	case want == "nothing" && ok:
		return fmt.Errorf("the client holds it: %s", got)
	case want == "nothing":
		return nil
	case !ok:
		return fmt.Errorf("the client holds only %v", v.Held())
	}
	return Match(want, got)
}

// drains handles "client a drains": it folds all messages sent to the client, in any form.
func (s *session) drains(c *Client) error {
	if err := s.settle(true, nil); err != nil {
		return err
	}
	for range c.Waiting() {
		if _, err := s.receive(c); err != nil {
			return err
		}
	}
	return nil
}
