package resmodel

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// View is the state of a client library. It folds the messages of one connection, in order, and
// holds the resources that are reachable from direct subscriptions. It is stricter than any client
// library: what a library would have to guess or repair is an error (RES.md 2.2 to 2.4). Not for
// concurrent use.
type View struct {
	bare    bool // a client below 1.2.0: resource answers of call and auth do not subscribe (RES.md 2.5)
	coarse  bool // a client below 1.2.1: what changed may look the same to it
	held    map[string]*resource
	direct  map[string]int
	pending map[string]sentRequest // by ID as text
	last    string                 // ID of the last message; empty: it was an event
}

type sentRequest struct {
	kind, rid string
	count     int
}

// resource is a held model, collection or error.
type resource struct {
	value   any // map[string]any, []any; an error's object
	failed  bool
	deleted bool // a delete event came: no more events
}

// set is a resource set in its wire format.
type set struct {
	RID         string                     `json:"rid"`
	Models      map[string]json.RawMessage `json:"models"`
	Collections map[string]json.RawMessage `json:"collections"`
	Errors      map[string]json.RawMessage `json:"errors"`
}

// NewView returns the view of a connection that has received nothing.
func NewView() *View {
	return &View{held: map[string]*resource{}, direct: map[string]int{}, pending: map[string]sentRequest{}}
}

// State sets the protocol version of the client; empty for none.
func (v *View) State(version string) {
	v.bare, v.coarse = version < "1.2", version < "1.2.1"
}

// Sent records a request of the client. Text that is not a request is ignored.
func (v *View) Sent(message string) {
	var r struct {
		ID     json.Number
		Method any
		Params json.RawMessage
	}
	if json.Unmarshal([]byte(message), &r) != nil || r.ID == "" {
		return
	}
	method, _ := r.Method.(string)
	v.Requested(r.ID.String(), method, r.Params)
}

// Requested records a request of the client as Sent does, without its text to read. params is JSON;
// empty: there are none.
func (v *View) Requested(id, method string, params []byte) {
	kind, rid, _ := strings.Cut(method, ".")
	p := sentRequest{kind, rid, 1}
	switch kind {
	case "unsubscribe":
		var count struct{ Count *int }
		if json.Unmarshal(params, &count) == nil && count.Count != nil {
			p.count = *count.Count
		}
	case "version":
		var version struct{ Protocol string }
		_ = json.Unmarshal(params, &version)
		v.State(version.Protocol)
	}
	v.pending[id] = p
}

// Begin folds the first message of a stream of server-sent events: the resource set that a
// subscribe request would return, with its resource ID.
func (v *View) Begin(message string) error {
	var first struct{ RID string }
	if err := json.Unmarshal([]byte(message), &first); err != nil || first.RID == "" {
		return errors.New("a stream begins with its resource ID")
	}
	v.State("1.2.3")
	v.Sent(`{"id":1,"method":"subscribe.` + first.RID + `"}`)
	return v.Received(`{"id":1,"result":` + message + `}`)
}

// Received folds one message. The error names the rule of the protocol that it violates.
func (v *View) Received(message string) error {
	var m struct {
		ID     *json.Number    `json:"id"`
		Event  string          `json:"event"`
		Result json.RawMessage `json:"result"`
		Error  json.RawMessage `json:"error"`
		Data   json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal([]byte(message), &m); err != nil {
		return fmt.Errorf("the client cannot read it: %w", err)
	}
	v.last = ""
	if m.ID == nil {
		return v.event(m.Event, m.Data)
	}
	v.last = m.ID.String()
	r, ok := v.pending[v.last]
	if !ok {
		return fmt.Errorf("an answer to a request %s that was not sent or is answered", *m.ID)
	}
	delete(v.pending, v.last)
	if m.Error != nil {
		if r.kind == "subscribe" && v.direct[r.rid] < 0 {
			v.direct[r.rid]++
		}
		return nil
	}
	return v.result(r, m.Result)
}

func (v *View) result(r sentRequest, result json.RawMessage) error {
	var s set
	root := r.rid
	switch r.kind {
	case "version":
		return nil
	case "unsubscribe":
		// The response may overtake that of the subscribe request it cancels. Then the count is
		// negative until that response arrives.
		if v.direct[r.rid] -= r.count; v.direct[r.rid]+v.Asked(r.rid) < 0 {
			return fmt.Errorf("unsubscribed from %s more often than subscribed", r.rid)
		}
		v.collect()
		return nil
	case "call", "auth":
		if v.bare || json.Unmarshal(result, &s) != nil || s.RID == "" {
			return nil
		}
		root = s.RID
	default:
		if err := json.Unmarshal(result, &s); err != nil {
			return fmt.Errorf("the result is no resource set: %w", err)
		}
		if r.kind == "new" {
			root = s.RID
		}
	}
	if _, failed := s.Errors[s.RID]; failed {
		// The call succeeded, but its resource failed to load: there is no subscription and no set.
		if len(s.Models)+len(s.Collections)+len(s.Errors) > 1 {
			return fmt.Errorf("more than the failure of %s is sent", s.RID)
		}
		return nil
	}
	added, err := v.add(&s)
	if err != nil {
		return err
	}
	if h := v.held[root]; h == nil || h.deleted || h.failed {
		return fmt.Errorf("the answer lacks %s, and the client does not hold it", root)
	}
	// The set is checked as if the client kept it. Then a get, or a subscribe cancelled since,
	// releases it.
	after := v.direct[root] + 1
	if r.kind == "get" {
		after--
	}
	v.direct[root] = max(after, 1)
	if err := v.check(added); err != nil {
		return err
	}
	v.direct[root] = after
	v.collect()
	return nil
}

// Asked returns the number of subscribe requests of a resource without a response.
func (v *View) Asked(rid string) int { return v.underWay("subscribe", rid) }

// leaving counts the subscriptions that unsubscribe requests without a response cancel.
func (v *View) leaving(rid string) int { return v.underWay("unsubscribe", rid) }

func (v *View) underWay(kind, rid string) (n int) {
	for _, p := range v.pending {
		if p.kind == kind && p.rid == rid {
			n += p.count
		}
	}
	return n
}

func (v *View) event(event string, data json.RawMessage) error {
	dot := strings.LastIndexByte(event, '.')
	if dot < 0 {
		return fmt.Errorf("event %q has no resource", event)
	}
	rid, name := event[:dot], event[dot+1:]
	h := v.held[rid]
	switch {
	case h == nil:
		return fmt.Errorf("event %s of a resource that the client does not hold", event)
	case h.failed:
		return fmt.Errorf("event %s of a resource that failed", event)
	case h.deleted && name != "unsubscribe":
		return fmt.Errorf("event %s after delete", event)
	}
	switch name {
	case "change", "add", "remove":
		var s set
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
		added, err := v.add(&s)
		if err != nil {
			return err
		}
		if h.value, err = Fold(h.value, name, data, v.coarse); err != nil {
			return err
		}
		return v.check(added)
	case "unsubscribe":
		if v.direct[rid] == 0 && v.Asked(rid) == 0 {
			return fmt.Errorf("event %s without a direct subscription", event)
		}
		delete(v.direct, rid)
		v.collect()
	case "delete":
		h.deleted = true
	}
	return nil
}

// add adds a set and returns the new IDs.
func (v *View) add(s *set) (added []string, err error) {
	take := func(group map[string]json.RawMessage, failed bool) {
		for rid, raw := range group {
			h := v.held[rid]
			if h != nil && h.deleted && failed {
				continue // what was deleted is not found; the client keeps what it had of it
			}
			// A client does not hold an error as a resource: the error or the resource may follow
			// later.
			if h != nil && !h.deleted && !h.failed {
				err = errors.Join(err, fmt.Errorf("%s is sent, but the client holds it", rid))
				continue
			}
			value, bad := Decode(string(raw))
			if bad != nil {
				err = errors.Join(err, bad)
			}
			v.held[rid] = &resource{value: value, failed: failed}
			added = append(added, rid)
		}
	}
	take(s.Models, false)
	take(s.Collections, false)
	take(s.Errors, true)
	slices.Sort(added)
	return added, err
}

// check removes the resources that are no longer reachable. None of those just added may be
// unreachable, and no held resource may refer to one that is not held.
func (v *View) check(added []string) error {
	missing := v.collect()
	for _, rid := range added {
		if v.held[rid] == nil {
			return fmt.Errorf("%s is sent, but nothing makes the client subscribe to it", rid)
		}
	}
	if missing != "" {
		return fmt.Errorf("%s is referred to, but the client does not have it", missing)
	}
	return nil
}

// collect removes the resources that are not reachable from a direct subscription. It returns a
// reachable reference that is not held, if there is one.
func (v *View) collect() (missing string) {
	reached := map[string]bool{}
	var visit func(rid string)
	visit = func(rid string) {
		if reached[rid] {
			return
		}
		reached[rid] = true
		h := v.held[rid]
		if h == nil {
			missing = rid
			return
		}
		for _, ref := range References(h.value) {
			visit(ref)
		}
	}
	for rid, n := range v.direct {
		if n > 0 {
			visit(rid)
		} else if n == 0 {
			delete(v.direct, rid)
		}
	}
	for rid := range v.held {
		if !reached[rid] {
			delete(v.held, rid)
		}
	}
	return missing
}

// References returns the resource IDs that a decoded model or collection refers to, soft references
// excepted.
func References(value any) []string {
	var refs []string
	one := func(e any) {
		if m, ok := e.(map[string]any); ok && m["soft"] != true {
			if rid, ok := m["rid"].(string); ok {
				refs = append(refs, rid)
			}
		}
	}
	switch t := value.(type) {
	case map[string]any:
		for _, e := range t {
			one(e)
		}
	case []any:
		for _, e := range t {
			one(e)
		}
	}
	return refs
}

// Held returns the IDs of the resources that the client holds, sorted.
func (v *View) Held() []string {
	rids := make([]string, 0, len(v.held))
	for rid := range v.held {
		rids = append(rids, rid)
	}
	slices.Sort(rids)
	return rids
}

// Value returns a held resource as JSON; ok is false if it is not held.
func (v *View) Value(rid string) (value string, ok bool) {
	h := v.held[rid]
	if h == nil {
		return "", false
	}
	return Encode(h.value), true
}

// Holds reports whether the client holds the resource.
func (v *View) Holds(rid string) bool { return v.held[rid] != nil }

// Failed reports whether the client has an error instead of the resource; Deleted reports whether
// the resource was deleted.
func (v *View) Failed(rid string) bool  { h := v.held[rid]; return h != nil && h.failed }
func (v *View) Deleted(rid string) bool { h := v.held[rid]; return h != nil && h.deleted }

// Subscribed returns the directly subscribed resource IDs that no pending unsubscribe request
// cancels, sorted.
func (v *View) Subscribed() []string {
	var rids []string
	for rid, n := range v.direct {
		if n > v.leaving(rid) {
			rids = append(rids, rid)
		}
	}
	slices.Sort(rids)
	return rids
}

// Open describes the requests without a response, for error messages.
func (v *View) Open() string { return fmt.Sprint(v.pending) }

// Responded returns the ID of the request whose response was the last message, as text; it is empty
// if that was an event.
func (v *View) Responded() string { return v.last }

// Pending returns the number of requests without a response.
func (v *View) Pending() int { return len(v.pending) }

// Fold applies one state event to a decoded model or collection, which it may change. If coarse, a
// change may repeat what is there already.
func Fold(state any, event string, data json.RawMessage, coarse bool) (any, error) {
	decoded, err := Decode(string(data))
	if err != nil {
		return nil, err
	}
	d, _ := decoded.(map[string]any)
	switch st := state.(type) {
	case map[string]any:
		values, ok := d["values"].(map[string]any)
		if event != "change" || !ok {
			return nil, fmt.Errorf("%s is no event of a model", event)
		}
		if len(values) == 0 {
			return nil, errors.New("a change that changes nothing")
		}
		for k, e := range values {
			old, had := st[k]
			if isDelete(e) {
				if !had {
					return nil, fmt.Errorf("property %s is deleted, but it is not there", k)
				}
				delete(st, k)
				continue
			}
			if !coarse && had && Encode(old) == Encode(e) {
				return nil, fmt.Errorf("property %s is sent, but it did not change", k)
			}
			st[k] = e
		}
		return st, nil
	case []any:
		n, _ := d["idx"].(json.Number)
		idx, err := strconv.Atoi(n.String())
		if err != nil {
			return nil, fmt.Errorf("%s without an index", event)
		}
		switch {
		case event == "add" && idx >= 0 && idx <= len(st):
			return slices.Insert(st, idx, d["value"]), nil
		case event == "remove" && idx >= 0 && idx < len(st):
			return slices.Delete(st, idx, idx+1), nil
		}
		return nil, fmt.Errorf("%s at %d of a collection of %d", event, idx, len(st))
	}
	return nil, fmt.Errorf("%s is no event of a failed resource", event)
}

func isDelete(v any) bool {
	m, ok := v.(map[string]any)
	return ok && len(m) == 1 && m["action"] == "delete"
}
