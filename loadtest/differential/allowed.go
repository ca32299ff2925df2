//go:build linux

package differential

import (
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"sluice/internal/resmodel"
)

// Rule allows a difference that is meant. The first gateway's outcome is Sluice's, the second's
// Resgate's.
type Rule struct {
	Name   string
	Reason string

	// rewrite makes equal, in a message or a line of an HTTP response, what may differ; "" removes
	// the line. nil: the rule is about more than one line.
	rewrite func(line string) string
	// holds reports whether the whole outcome differs as is meant. Afterwards clients of the two
	// gateways hold different things, so the conversation ends.
	holds func(steps []Step, got, want *Outcome) bool
}

var (
	reason    = regexp.MustCompile(`"data":\{"reason":"[^"]*"\},`)
	malformed = regexp.MustCompile(`^\{"code":"system\.badRequest",("data":\{"offset":\d+,"reason":"malformed JSON: [^"]*"\},"message":"Bad request"|"message":"Error decoding request body: .*")\}$`)
	noData    = regexp.MustCompile(`^\{"data":null,"event":`)
	oddID     = regexp.MustCompile(`"id":("|\{"|[0-9]+\.)`)
	internal  = regexp.MustCompile(`"message":"Internal error: [^"]*"`)
)

// Rules are the differences that are meant, in the order in which they are tried. CHANGELOG.md
// lists them for users.
var Rules = []Rule{
	{
		Name:    "the reason of invalid parameters",
		Reason:  "an error about a client's own parameters says in its data what is wrong with them",
		rewrite: func(l string) string { return reason.ReplaceAllString(l, "") },
	},
	{
		Name:    "the text of internal errors",
		Reason:  "Resgate passes on the text of its JSON decoder, which is that of a library",
		rewrite: func(l string) string { return internal.ReplaceAllString(l, `"message":"Internal error"`) },
	},
	{
		Name:    "where JSON is malformed",
		Reason:  "the response to a malformed body says at which byte, not with the text of a library",
		rewrite: func(l string) string { return malformed.ReplaceAllString(l, `{"code":"system.badRequest"}`) },
	},
	{
		Name:    "events without data",
		Reason:  "if the service sent no payload, the event has no data; Resgate sends null",
		rewrite: func(l string) string { return noData.ReplaceAllString(l, `{"event":`) },
	},
	{
		Name:   "Allow",
		Reason: "RFC 9110 section 15.5.6 demands the field with 405",
		rewrite: func(l string) string {
			if strings.HasPrefix(l, "Allow: ") {
				return ""
			}
			return l
		},
	},
	{
		Name:   "requests on wsPath that are no upgrade",
		Reason: "errors are JSON everywhere",
		rewrite: func(l string) string {
			switch l {
			case "Content-Type: application/json; charset=utf-8", "Content-Type: text/plain; charset=utf-8", `{"code":"system.badRequest","message":"Bad request"}`, "Bad Request\n":
				return ""
			}
			return l
		},
	},
	{
		Name:   "messages that no client can make sense of",
		Reason: "Resgate loses track of what clients hold, of cycles of references for example; they get a resource twice, or never",
		holds: func(_ []Step, got, want *Outcome) bool {
			return got.broken() == "" && want.broken() != ""
		},
	},
	{
		Name:   "clients that are out of date",
		Reason: "Resgate drops an event while it loads what the event refers to, in cycles for example",
		holds: func(_ []Step, got, want *Outcome) bool {
			for i := range got.Clients {
				if slices.ContainsFunc(got.Clients[i].Stale, func(rid string) bool { return !slices.Contains(want.Clients[i].Stale, rid) }) {
					return false
				}
			}
			return !reflect.DeepEqual(got.stale(), want.stale())
		},
	},
	{
		Name:   "events before the end of a subscription",
		Reason: "a reset changes several resources in any order; those that are no longer reachable may have got events before or not",
		holds: func(steps []Step, got, want *Outcome) bool {
			if last(steps).Act != "reset" {
				return false
			}
			a, b := got.clone(), want.clone()
			for i := range a.Clients {
				for _, o := range []*Outcome{&a, &b} {
					maps.DeleteFunc(o.Clients[i].Events, func(rid string, _ []string) bool {
						return !slices.Contains(a.Clients[i].Held, rid) && !slices.Contains(b.Clients[i].Held, rid)
					})
				}
			}
			return reflect.DeepEqual(a, b)
		},
	},
	{
		Name:   "events of resources that a client holds",
		Reason: "Resgate takes a resource of a cycle for one that the client does not hold any more, and sends no events of it",
		holds: func(steps []Step, got, want *Outcome) bool {
			first, second := apart(got, want)
			event := `"event":"` + service + "." + last(steps).Name + "."
			return last(steps).Act != "" && len(second) == 0 && got.broken() == "" &&
				!slices.ContainsFunc(first, func(l string) bool { return !strings.Contains(l, event) })
		},
	},
	{
		Name:   "which event brings a resource",
		Reason: "several resources change at once, in any order; the first that refers to another one brings it",
		holds: func(steps []Step, got, want *Outcome) bool {
			if act := last(steps).Act; act != "query" && act != "reset" {
				return false
			}
			a, b := got.clone(), want.clone()
			x, y := a.takeSets(), b.takeSets()
			return x == y && reflect.DeepEqual(a, b)
		},
	},
	{
		Name:   "health checks on /",
		Reason: "load balancers probe with HEAD and OPTIONS",
		holds: func(steps []Step, _, _ *Outcome) bool {
			h := last(steps).HTTP
			return h != nil && h.Path == "/" && (h.Method == "HEAD" || h.Method == "OPTIONS")
		},
	},
	{
		Name:   "request IDs of any kind",
		Reason: "an ID is returned unchanged; Resgate ignores requests whose ID is no whole number",
		holds: func(steps []Step, got, want *Outcome) bool {
			return oddID.MatchString(last(steps).Text) && only(got, want, `"id":`)
		},
	},
	{
		Name:   "a version request without a version",
		Reason: "the client counts as 1.1.1 from then on; with Resgate it keeps the version of an earlier request",
		holds: func(steps []Step, _, _ *Outcome) bool {
			return slices.ContainsFunc(steps, func(s Step) bool { return s.Text == `{"id":{id},"method":"version"}` })
		},
	},
	{
		Name:   "a request without a method",
		Reason: "a message with an ID gets a response; Resgate ignores one whose method is no string",
		holds: func(steps []Step, got, want *Outcome) bool {
			return strings.Contains(last(steps).Text, `"method":1`) && only(got, want, "system.invalidRequest")
		},
	},
	{
		Name:   "malformed events",
		Reason: "they are dropped; Resgate takes an index that is missing for 0",
		holds: func(steps []Step, got, want *Outcome) bool {
			return last(steps).Act == "oddevent" || about(steps, "oddevent", got, want)
		},
	},
	{
		Name:   "resources after their deletion",
		Reason: "they are got anew; Resgate gives the last state to those who subscribe while another client holds it",
		holds:  func(steps []Step, got, want *Outcome) bool { return about(steps, "delete", got, want) },
	},
}

// broken returns what a client cannot make sense of; "" if there is nothing.
func (o *Outcome) broken() string { return o.Clients[0].Broken + o.Clients[1].Broken }

// about reports whether the service did something to a resource in an earlier step, and the last
// step or all that differs is about this resource.
func about(steps []Step, act string, got, want *Outcome) bool {
	return slices.ContainsFunc(steps[:len(steps)-1], func(s Step) bool {
		name := service + "." + s.Name
		return s.Act == act && (strings.Contains(last(steps).Text, name) || mentions(got, want, name))
	})
}

// takeSets removes the resource sets from events, and returns all that they hold, sorted.
func (o *Outcome) takeSets() string {
	var all []string
	for i := range o.Clients {
		for _, events := range o.Clients[i].Events {
			for k, text := range events {
				var event struct {
					Event string         `json:"event"`
					Data  map[string]any `json:"data"`
				}
				if json.Unmarshal([]byte(text), &event) != nil {
					continue
				}
				for _, group := range []string{"models", "collections", "errors"} {
					set, _ := event.Data[group].(map[string]any)
					for rid, value := range set {
						all = append(all, rid+resmodel.Encode(value))
					}
					delete(event.Data, group)
				}
				events[k] = event.Event + resmodel.Encode(event.Data)
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// stale returns what clients hold in another state than the service.
func (o *Outcome) stale() [2][]string { return [2][]string{o.Clients[0].Stale, o.Clients[1].Stale} }

func last(steps []Step) Step { return steps[len(steps)-1] }

// only reports whether all that the first has beyond the second contains text, and the second has
// nothing beyond the first.
func only(got, want *Outcome, text string) bool {
	first, second := apart(got, want)
	return len(second) == 0 && !slices.ContainsFunc(first, func(l string) bool { return !strings.Contains(l, text) })
}

// mentions reports whether all lines that only one of them has contain text.
func mentions(got, want *Outcome, text string) bool {
	first, second := apart(got, want)
	return !slices.ContainsFunc(append(first, second...), func(l string) bool { return !strings.Contains(l, text) })
}

// apart returns the lines that only one of two outcomes has.
func apart(a, b *Outcome) (first, second []string) {
	x, y := a.lines(), b.lines()
	first = slices.DeleteFunc(slices.Clone(x), func(l string) bool { return slices.Contains(y, l) })
	second = slices.DeleteFunc(slices.Clone(y), func(l string) bool { return slices.Contains(x, l) })
	return first, second
}

// allow returns the names of the rules that make two outcomes equal, or of the one that allows them
// to differ as they do. ends reports whether the conversation cannot go on; ok is false if the
// difference is not meant.
func allow(steps []Step, got, want *Outcome) (names []string, ends, ok bool) {
	a, b := got.clone(), want.clone()
	for _, r := range Rules {
		if r.rewrite == nil {
			continue
		}
		changedA, changedB := a.rewrite(r.rewrite), b.rewrite(r.rewrite)
		if changedA || changedB {
			names = append(names, r.Name)
		}
		if reflect.DeepEqual(a, b) {
			return names, false, true
		}
	}
	for _, r := range Rules {
		if r.holds != nil && r.holds(steps, &a, &b) {
			return append(names, r.Name), true, true
		}
	}
	return nil, false, false
}

// clone returns a copy that rewrite may change.
func (o *Outcome) clone() Outcome {
	c := Outcome{HTTP: slices.Clone(o.HTTP)}
	for i, r := range o.Clients {
		c.Clients[i] = Received{Responses: slices.Clone(r.Responses), Other: slices.Clone(r.Other), Broken: r.Broken, Held: r.Held, Stale: r.Stale, Ended: r.Ended, Events: map[string][]string{}}
		for rid, events := range r.Events {
			c.Clients[i].Events[rid] = slices.Clone(events)
		}
	}
	return c
}

// rewrite applies f to all lines, and reports whether it has changed any.
func (o *Outcome) rewrite(f func(string) string) (changed bool) {
	each := func(lines *[]string) {
		var kept []string
		for _, l := range *lines {
			next := f(l)
			changed = changed || next != l
			if next != "" || l == "" {
				kept = append(kept, next)
			}
		}
		*lines = kept
	}
	for i := range o.Clients {
		c := &o.Clients[i]
		each(&c.Responses)
		slices.Sort(c.Responses)
		for rid, events := range c.Events {
			if each(&events); len(events) == 0 {
				delete(c.Events, rid)
				continue
			}
			c.Events[rid] = events
		}
	}
	each(&o.HTTP)
	return changed
}
