package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"sluice/cache"
	"sluice/fanout"
	"sluice/internal/res"
)

// Resource is a resource that clients are subscribed to.
type Resource struct {
	Name        string  `json:"name"`
	Query       string  `json:"query,omitempty"`
	Subscribers int     `json:"subscribers"`
	Deliveries  float64 `json:"deliveries"` // events sent to clients per second, of late
	Loops       int     `json:"loops"`      // event loops that it is on
}

// ResourceList is the response of GET /api/resources.
type ResourceList struct {
	Resources []Resource `json:"resources"`
}

// keepRows is how many resources of each loop are compared with those of the others, at least: one
// that is on several loops may be far down in each of them.
const keepRows = 1000

var resourceOrders = map[string]func(a, b *Resource) int{
	"deliveries": func(a, b *Resource) int {
		return cmp.Or(cmp.Compare(b.Deliveries, a.Deliveries), cmp.Compare(b.Subscribers, a.Subscribers), byName(a, b))
	},
	"subscribers": func(a, b *Resource) int { return cmp.Or(cmp.Compare(b.Subscribers, a.Subscribers), byName(a, b)) },
	"name":        byName,
}

func byName(a, b *Resource) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Query, b.Query))
}

func (s *Server) listResources(ctx context.Context, r *http.Request) (any, error) {
	q := r.URL.Query()
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	order, ok := resourceOrders[cmp.Or(q.Get("sort"), "deliveries")]
	if !ok {
		return nil, refuse(http.StatusBadRequest, "sort must be deliveries, subscribers or name")
	}
	match := func(string) bool { return true }
	if text := q.Get("pattern"); text != "" {
		p, ok := res.ParsePattern(text)
		if !ok {
			return nil, refuse(http.StatusBadRequest, "pattern must be a pattern of resource names, such as library.> or library.*.title")
		}
		match = p.Match
	}
	return s.recent.get(ctx, s.clock, "resources?"+r.URL.RawQuery, func() (any, error) {
		ctx, cancel := detached(ctx)
		defer cancel()
		return s.resources(ctx, limit, match, order)
	})
}

func (s *Server) resources(ctx context.Context, limit int, match func(name string) bool, order func(a, b *Resource) int) (*ResourceList, error) {
	type part struct {
		rows []*Resource
		err  error
	}
	loops := s.gw.Loops()
	parts := make(chan part, len(loops))
	for _, l := range loops {
		go func() {
			first := best[*Resource]{n: max(4*limit, keepRows), order: order}
			err := inSlices(ctx, l.Post, func(from int) (list []fanout.TopicInfo, next int) {
				next = l.Env.Hub.Walk(from, step, func(t fanout.TopicInfo) { list = append(list, t) })
				return list, next
			}, func(list []fanout.TopicInfo) {
				for _, t := range list {
					if match(t.Name) {
						first.add(&Resource{Name: t.Name, Query: t.Query, Subscribers: t.Subscribers, Deliveries: t.Deliveries, Loops: 1})
					}
				}
			})
			if err != nil {
				err = late("event loop", l.Net.Index())
			}
			parts <- part{first.cut(), err}
		}()
	}
	type key struct{ name, query string }
	all := map[key]*Resource{}
	for range loops {
		p := <-parts
		if p.err != nil {
			return nil, p.err
		}
		here := map[*Resource]bool{} // a loop may have several topics of a resource
		for _, r := range p.rows {
			k := key{r.Name, r.Query}
			sum := all[k]
			if sum == nil {
				all[k], here[r] = r, true
				continue
			}
			sum.Subscribers += r.Subscribers
			sum.Deliveries += r.Deliveries
			if !here[sum] {
				here[sum] = true
				sum.Loops++
			}
		}
	}
	first := best[*Resource]{n: limit, order: order}
	for _, r := range all {
		first.add(r)
	}
	list := &ResourceList{Resources: []Resource{}}
	for _, r := range first.cut() {
		list.Resources = append(list.Resources, *r)
	}
	return list, nil
}

// ResourceDetails is the response of GET /api/resource.
type ResourceDetails struct {
	Name    string  `json:"name"`
	Queries int     `json:"queries"` // cached values: the plain resource and those of queries
	Values  []Value `json:"values"`  // some of them, if there are many
}

// Value is a cached value: the plain resource, or that of one normalised query.
type Value struct {
	Query       string          `json:"query"`
	State       string          `json:"state"` // loading, current, refetching or waiting
	Kind        string          `json:"kind,omitempty"`
	Entries     int             `json:"entries"` // of a model or collection
	Bytes       int             `json:"bytes"`
	Value       json.RawMessage `json:"value,omitempty"` // if it was asked for, and is not too long
	TooLong     bool            `json:"tooLong,omitempty"`
	Events      float64         `json:"events"` // per second, of late
	LastEvent   string          `json:"lastEvent,omitempty"`
	LastEventMs int64           `json:"lastEventMs,omitempty"` // since then
	Subscribers int             `json:"subscribers"`
	Loops       []Following     `json:"loops"`
}

// Following is what an event loop has of a value.
type Following struct {
	Loop        int     `json:"loop"`
	Subscribers int     `json:"subscribers"`
	Deliveries  float64 `json:"deliveries"`
}

const (
	maxValues = 100     // values listed of a resource, and topics of a value
	maxValue  = 1 << 20 // bytes of a value that is shown
)

// inspect asks a resource's shard about it.
func (s *Server) inspect(ctx context.Context, name, query string, one bool) (*cache.Info, error) {
	got := make(chan *cache.Info, 1)
	s.gw.ShardOf(name).Cache.Inspect(name, query, one, maxValues, func(i *cache.Info) { got <- i })
	select {
	case info := <-got:
		if info == nil || one && len(info.Entries) == 0 {
			return nil, refuse(http.StatusNotFound, "resource %q is not cached: no client is subscribed to it", clip(name))
		}
		return info, nil
	case <-ctx.Done():
		return nil, refuse(http.StatusServiceUnavailable, "the resource's cache shard does not answer within %v: it is overloaded or hangs; the overview shows which does", answerWithin)
	}
}

// nameOf returns the resource name in the query of a request.
func nameOf(r *http.Request) (string, error) {
	name := r.URL.Query().Get("name")
	if !res.ValidName(name) {
		return "", refuse(http.StatusBadRequest, "name must be a resource name without a query, such as library.books")
	}
	return name, nil
}

func (s *Server) showResource(ctx context.Context, r *http.Request) (any, error) {
	q := r.URL.Query()
	name, err := nameOf(r)
	if err != nil {
		return nil, err
	}
	info, err := s.inspect(ctx, name, q.Get("query"), q.Has("query"))
	if err != nil {
		return nil, err
	}
	d := &ResourceDetails{Name: info.Name, Queries: info.Queries, Values: []Value{}}
	for i := range info.Entries {
		v, err := s.value(ctx, &info.Entries[i], q.Get("value") == "1")
		if err != nil {
			return nil, err
		}
		d.Values = append(d.Values, *v)
	}
	slices.SortFunc(d.Values, func(a, b Value) int { return strings.Compare(a.Query, b.Query) })
	return d, nil
}

// value asks the loops about their subscribers of an entry.
func (s *Server) value(ctx context.Context, e *cache.EntryInfo, show bool) (*Value, error) {
	v := &Value{Query: e.Query, State: e.State, Events: e.Events, LastEvent: e.LastEvent, LastEventMs: e.LastAge.Milliseconds(), Loops: []Following{}}
	if e.Snapshot != nil {
		v.Kind, v.Entries, v.Bytes = "collection", e.Snapshot.Len(), e.Snapshot.Bytes()
		if e.Snapshot.IsModel() {
			v.Kind = "model"
		}
		switch {
		case !show:
		case e.Snapshot.Size() > maxValue:
			v.TooLong = true
		default:
			v.Value = e.Snapshot.JSON(false)
		}
	}
	refs := map[int][]uint64{}
	for _, t := range e.Topics {
		refs[t.Loop] = append(refs[t.Loop], t.Ref)
	}
	for _, l := range s.gw.Loops() {
		index := l.Net.Index()
		if len(refs[index]) == 0 {
			continue
		}
		f, err := ask(ctx, l.Post, func() Following {
			f := Following{Loop: index}
			for _, ref := range refs[index] {
				if t, ok := l.Env.Hub.Info(ref); ok {
					f.Subscribers += t.Subscribers
					f.Deliveries += t.Deliveries
				}
			}
			return f
		})
		if err != nil {
			return nil, late("event loop", index)
		}
		v.Subscribers += f.Subscribers
		v.Loops = append(v.Loops, f)
	}
	return v, nil
}
