package restest

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
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
			return nil, fmt.Errorf("requests to %s came, but none fits:\n%s", subject, strings.Join(misfits, "\n"))
		}
		return nil, fmt.Errorf("no request to %s came", subject)
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

// anyOrder handles the client lines of an any block: for each client, its next messages must be those
// of the block, in whichever order.
func (s *session) anyOrder(st *Step) error {
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
		if !slices.Contains(clients, b.Client) {
			clients = append(clients, b.Client)
		}
		patterns[b.Client] = append(patterns[b.Client], p)
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

// assign reports whether each pattern can be given a message of its own.
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

// subscribes handles "client a subscribes RID VALUE" with its indented references: the whole exchange.
// A query resource is answered with its own query as the normalised one, or with that after "as".
func (s *session) subscribes(c *Client, st *Step, arg string) error {
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
			if err := c.Send(`{"id":` + id + `,"method":"subscribe.` + rid + `"}`); err != nil {
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

// turns handles "client a turns RID FROM into TO by N": events whose exact edit is the gateway's choice.
func (s *session) turns(c *Client, arg string) error {
	m := turning.FindStringSubmatch(arg)
	if m == nil {
		return errors.New("want RID FROM into TO by N")
	}
	state, err := decode(m[2])
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
		if state, err = fold(state, name, ev.Data); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return Match(m[3], encode(state))
}

// fold applies one state event to a decoded model or collection.
func fold(state any, event string, data json.RawMessage) (any, error) {
	v, err := decode(string(data))
	if err != nil {
		return nil, err
	}
	d, _ := v.(map[string]any)
	switch st := state.(type) {
	case map[string]any:
		values, ok := d["values"].(map[string]any)
		if event != "change" || !ok {
			return nil, fmt.Errorf("%s is no event of a model", event)
		}
		for k, v := range values {
			if isDelete(v) {
				if _, had := st[k]; !had {
					return nil, fmt.Errorf("property %s deleted that is not there", k)
				}
				delete(st, k)
				continue
			}
			st[k] = v
		}
		return st, nil
	case []any:
		n, ok := d["idx"].(json.Number)
		idx, err := strconv.Atoi(n.String())
		if !ok || err != nil {
			return nil, errors.New("no index")
		}
		switch {
		case event == "add" && idx >= 0 && idx <= len(st):
			return slices.Insert(st, idx, d["value"]), nil
		case event == "remove" && idx >= 0 && idx < len(st):
			return slices.Delete(st, idx, idx+1), nil
		}
		return nil, fmt.Errorf("%s at %d of a collection of %d", event, idx, len(st))
	}
	return nil, fmt.Errorf("%s is no event of a value", event)
}

func isDelete(v any) bool {
	m, ok := v.(map[string]any)
	return ok && len(m) == 1 && m["action"] == "delete"
}
