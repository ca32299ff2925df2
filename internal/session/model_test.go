package session

import (
	"encoding/json"
	"fmt"
	"strings"
)

// holdings models a client library's cache (RES.md 2.3): the resources reachable from its direct
// subscriptions, and no others. It applies every message; one that a library cannot apply is an
// error.
type holdings struct {
	direct    map[string]int
	resources map[string]any // map[string]any: model; *[]any: collection
	failed    map[string]bool
	deleted   map[string]bool
	held      func(rid string) // a resource has been sent
	dropped   func(rid string) // a resource is not held any more, or its copy has come to an end
}

// has reports whether the client holds a resource that is not deleted.
func (h *holdings) has(rid string) bool {
	_, ok := h.resources[rid]
	return ok && !h.deleted[rid]
}

func newHoldings() *holdings {
	return &holdings{held: func(string) {}, direct: map[string]int{}, resources: map[string]any{}, failed: map[string]bool{}, deleted: map[string]bool{}}
}

// set is a resource set, alone or within an event's data.
type set struct {
	Models      map[string]map[string]any `json:"models"`
	Collections map[string][]any          `json:"collections"`
	Errors      map[string]any            `json:"errors"`
}

// take adds the resources of a set.
func (h *holdings) take(s set) error {
	hold := func(rid string, r any) error {
		if _, ok := h.resources[rid]; ok && !h.deleted[rid] {
			return fmt.Errorf("%s was sent although it is held", rid)
		}
		h.resources[rid] = r
		delete(h.failed, rid)
		delete(h.deleted, rid)
		h.held(rid)
		return nil
	}
	for rid, m := range s.Models {
		if err := hold(rid, m); err != nil {
			return err
		}
	}
	for rid, c := range s.Collections {
		if err := hold(rid, &c); err != nil {
			return err
		}
	}
	for rid := range s.Errors {
		if _, ok := h.resources[rid]; ok && !h.deleted[rid] {
			return fmt.Errorf("%s failed although it is held", rid)
		}
		h.failed[rid] = true
	}
	return nil
}

// event applies an event.
func (h *holdings) event(name string, data json.RawMessage) error {
	dot := strings.LastIndexByte(name, '.')
	rid, event := name[:dot], name[dot+1:]
	r, ok := h.resources[rid]
	if !ok {
		return fmt.Errorf("event %s on a resource that is not held", name)
	}
	if h.deleted[rid] && event != "unsubscribe" {
		return fmt.Errorf("event %s on a deleted resource", name)
	}
	var s set
	if len(data) > 0 {
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
	}
	if err := h.take(s); err != nil {
		return err
	}
	var d struct {
		Values map[string]any
		Idx    *int
		Value  any
	}
	if len(data) > 0 {
		_ = json.Unmarshal(data, &d)
	}
	switch event {
	case "change":
		for k, v := range d.Values {
			if m, ok := v.(map[string]any); ok && m["action"] == "delete" {
				delete(r.(map[string]any), k)
			} else {
				r.(map[string]any)[k] = v
			}
		}
	case "add":
		c := r.(*[]any)
		if *d.Idx > len(*c) {
			return fmt.Errorf("%s: index out of range", name)
		}
		*c = append((*c)[:*d.Idx], append([]any{d.Value}, (*c)[*d.Idx:]...)...)
	case "remove":
		c := r.(*[]any)
		if *d.Idx >= len(*c) {
			return fmt.Errorf("%s: index out of range", name)
		}
		*c = append((*c)[:*d.Idx:*d.Idx], (*c)[*d.Idx+1:]...)
	case "delete":
		h.deleted[rid] = true
		h.dropped(rid)
	case "unsubscribe":
		if h.direct[rid] == 0 {
			return fmt.Errorf("%s without a direct subscription", name)
		}
		delete(h.direct, rid)
	}
	return h.tidy()
}

// tidy drops unreachable resources, and checks that all reachable ones were sent.
func (h *holdings) tidy() error {
	seen := map[string]bool{}
	var walk func(rid, from string) error
	walk = func(rid, from string) error {
		if seen[rid] {
			return nil
		}
		r, ok := h.resources[rid]
		if !ok {
			if h.failed[rid] {
				seen[rid] = true
				return nil
			}
			return fmt.Errorf("%s refers to %s, which the client was not sent", from, rid)
		}
		seen[rid] = true
		var values []any
		switch r := r.(type) {
		case map[string]any:
			for _, v := range r {
				values = append(values, v)
			}
		case *[]any:
			values = *r
		}
		for _, v := range values {
			if m, ok := v.(map[string]any); ok {
				if ref, ok := m["rid"].(string); ok && m["soft"] == nil {
					if err := walk(ref, rid); err != nil {
						return err
					}
				}
			}
		}
		return nil
	}
	for rid, n := range h.direct {
		if n > 0 {
			if err := walk(rid, "a direct subscription"); err != nil {
				return err
			}
		}
	}
	for rid := range h.failed {
		if !seen[rid] {
			delete(h.failed, rid)
		}
	}
	for rid := range h.resources {
		if !seen[rid] {
			delete(h.resources, rid)
			delete(h.deleted, rid)
			h.dropped(rid)
		}
	}
	return nil
}
