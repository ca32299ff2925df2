package service

import (
	"fmt"
	"strings"
)

// How many resources of each kind a service has, besides its groups and feeds.
const (
	Leaves  = 8 // models without references, which models of all services refer to
	Mortals = 4 // models that are deleted and created again
	Queries = 2 // collections whose queries show a part
	inGroup = 4 // models of a group
)

// Name is the name of the i-th service, with which all its resources' names begin.
func Name(i int) string { return fmt.Sprintf("s%d", i) }

// Group returns the names of a group: models and two collections that refer to each other.
func Group(service string, g int) []string {
	var names []string
	for i := range inGroup {
		names = append(names, fmt.Sprintf("%s.g%d.m%d", service, g, i))
	}
	return append(names, fmt.Sprintf("%s.g%d.l0", service, g), fmt.Sprintf("%s.g%d.l1", service, g))
}

// Feed is the name of a model with custom events: tick, with a Tick as data.
func Feed(service string, i int) string { return fmt.Sprintf("%s.feed.%d", service, i) }

// Bulk is the name of a model with large ticks, which come only on the command of that name.
func Bulk(service string) string { return service + ".bulk" }

// Leaf is the name of a model without references.
func Leaf(service string, i int) string { return fmt.Sprintf("%s.leaf.%d", service, i) }

// Mortal is the name of a model that is deleted now and then.
func Mortal(service string, i int) string { return fmt.Sprintf("%s.mortal.%d", service, i) }

// Query is the name of a collection whose queries "from=N&count=N" are slices.
func Query(service string, i int) string { return fmt.Sprintf("%s.query.%d", service, i) }

// Counter is the name of the resource whose method add takes a Call and returns it.
func Counter(service string) string { return service + ".counter" }

// Of returns the number of the service that owns a resource ID; -1 for none.
func Of(rid string) int {
	name, _, _ := strings.Cut(rid, ".")
	var i int
	if _, err := fmt.Sscanf(name, "s%d", &i); err != nil {
		return -1
	}
	return i
}

// Tick is the data of a custom event. The numbers of a feed count up by one within a generation of
// the service, from one.
type Tick struct {
	Gen  uint64 `json:"g"` // generation: starts of the service's process
	N    uint64 `json:"n"`
	Time int64  `json:"t"` // when it was published, in nanoseconds since 1970
	Pad  string `json:"p,omitempty"`
}

// Call is the params of add, and its result. A client's numbers count up by one.
type Call struct {
	Client int    `json:"c"`
	N      uint64 `json:"n"`
}

// Config is the first line that a service's process reads. The services of a soak differ in Index
// and Seed only.
type Config struct {
	Index    int      `json:"index"`
	Services int      `json:"services"` // of the soak
	URLs     []string `json:"urls"`     // of NATS nodes, the one to prefer first
	Seed     uint64   `json:"seed"`
	Gen      uint64   `json:"gen"`
	Groups   int      `json:"groups"`
	Feeds    int      `json:"feeds"`
	Changes  float64  `json:"changes"` // per second
	Ticks    float64  `json:"ticks"`   // of each feed, per second
}

// What a service can be told to do.
const (
	Run    = "run"    // change resources and publish ticks
	Quiet  = "quiet"  // stop that, and flush
	Tell   = "state"  // reply with a State
	Reset  = "reset"  // reset all resources and their access
	Crash  = "crash"  // die in the middle of replies
	Burst  = "burst"  // publish so many ticks on each feed, and on Bulk
	Large  = "large"  // publish so many large ticks on Bulk
	Beyond = "beyond" // change resources without an event, then reset all
)

// Command is a further line that a service's process reads.
type Command struct {
	ID int    `json:"id"`
	Do string `json:"do"`
	N  int    `json:"n,omitempty"` // of Burst and Large
}

// Reply is a line that it writes: one for each Command but Crash, and one when it is ready.
type Reply struct {
	ID    int    `json:"id"`
	Error string `json:"error,omitempty"`
	State *State `json:"state,omitempty"`
}

// State is what is true of a service.
type State struct {
	Resources map[string]any    `json:"resources"` // models and collections by name
	Sliced    map[string][]any  `json:"sliced"`    // whole collections of queries, by name
	Denied    []string          `json:"denied"`    // names that may not be got
	Ticks     map[string]uint64 `json:"ticks"`     // the last number of each feed
	Gen       uint64            `json:"gen"`
	Node      string            `json:"node"`     // URL of the NATS node that it is connected to
	Calls     int64             `json:"calls"`    // of add that were executed
	Repeated  int64             `json:"repeated"` // of them, executed before
	Requests  int64             `json:"requests"` // of the gateways
}
