package admin

import (
	"context"
	"net/http"
	"runtime"
	"time"

	"sluice/internal/config"
	"sluice/internal/limit"
	"sluice/internal/memory"
	"sluice/internal/metrics"
)

// Overview is the response of GET /api/overview: the gateway as a whole. Totals only grow.
type Overview struct {
	Version  string `json:"version"`
	Time     int64  `json:"time"`     // Unix time in milliseconds
	UptimeMs int64  `json:"uptimeMs"` // since the gateway was made
	NotReady string `json:"notReady,omitempty"`
	Draining bool   `json:"draining,omitempty"`
	LogLevel string `json:"logLevel,omitempty"`

	Connections Connections `json:"connections"`
	Totals      Totals      `json:"totals"`
	Now         Levels      `json:"now"`
	Memory      Memory      `json:"memory"`

	Loops    []LoopState    `json:"loops"`
	Shards   []ShardState   `json:"shards"`
	Services []ServiceState `json:"services"`
}

// Connections are how many connections are open now.
type Connections struct {
	WebSocket int64 `json:"webSocket"`
	Streams   int64 `json:"streams"`
	All       int64 `json:"all"`
	Slow      int64 `json:"slow"`
	Paused    int64 `json:"paused"`
	Throttled int64 `json:"throttled"`
}

// Totals count since the start.
type Totals struct {
	Deliveries      uint64 `json:"deliveries"` // events sent to clients
	Events          uint64 `json:"events"`     // events received from services
	Messages        uint64 `json:"messages"`   // received from clients
	HTTPRequests    uint64 `json:"httpRequests"`
	BytesIn         uint64 `json:"bytesIn"`
	BytesOut        uint64 `json:"bytesOut"`
	ServiceRequests uint64 `json:"serviceRequests"`
	Timeouts        uint64 `json:"timeouts"` // service requests without a reply in time
	Accepted        uint64 `json:"accepted"`

	// The time from an event's arrival until it is written to the last client, of TimedEvents of
	// the events, added up.
	TimedEvents   uint64  `json:"timedEvents"`
	EventsSeconds float64 `json:"eventsSeconds"`
}

// Levels go up and down.
type Levels struct {
	Sessions      int64 `json:"sessions"`
	Subscriptions int64 `json:"subscriptions"`
	Topics        int64 `json:"topics"`
	Resources     int64 `json:"resources"`
	CacheBytes    int64 `json:"cacheBytes"`
	Unused        int64 `json:"unused"` // cached values without subscribers
	BacklogBytes  int64 `json:"backlogBytes"`
	Requests      int64 `json:"requests"` // at services
}

// Memory is the process's memory in bytes.
type Memory struct {
	Live       int64  `json:"live"`  // that no collection would free
	Limit      int64  `json:"limit"` // 0: none
	Level      string `json:"level"` // docs/reliability.md
	Goroutines int    `json:"goroutines"`
}

// LoopState is an event loop.
type LoopState struct {
	Index       int   `json:"index"`
	Connections int   `json:"connections"`
	Topics      int   `json:"topics"`
	BusyMs      int64 `json:"busyMs"` // time in which it did not wait, since the start
	Requests    int   `json:"requests"`
	Mailbox     int   `json:"mailbox"`     // messages that wait
	DelayMicros int64 `json:"delayMicros"` // how long a message waited just now
	Late        bool  `json:"late,omitempty"`
}

// ShardState is a cache shard.
type ShardState struct {
	Index       int   `json:"index"`
	Mailbox     int   `json:"mailbox"`
	DelayMicros int64 `json:"delayMicros"`
	Late        bool  `json:"late,omitempty"`
}

// ServiceState is the limit of a service's requests.
type ServiceState struct {
	Name     string `json:"name"`
	Limit    int64  `json:"limit"`
	InFlight int64  `json:"inFlight"`
	Queued   int64  `json:"queued"`
	Timeouts uint64 `json:"timeouts"`
}

// maxServices bounds the services in an overview.
const maxServices = 100

// ownerWithin is how long the overview waits for an owner before it shows it as late.
const ownerWithin = time.Second

func (s *Server) overview(ctx context.Context, r *http.Request) (any, error) {
	return s.recent.get(ctx, s.clock, "overview", func() (any, error) { return s.look(ctx), nil })
}

func (s *Server) look(ctx context.Context) *Overview {
	c := s.gw.Counters
	o := &Overview{
		Version: s.gw.Version, Time: s.clock.Wall().UnixMilli(), UptimeMs: (s.clock.Now() - s.begun).Milliseconds(), Draining: c.Draining(),
		Connections: Connections{
			WebSocket: c.Net.Open.Load(), Streams: c.Net.OpenStreams.Load(), All: c.Net.OpenAll.Load(),
			Slow: c.Net.Lagging.Load(), Paused: c.Net.Paused.Load(), Throttled: c.Net.Throttled.Load(),
		},
		Totals: Totals{
			Deliveries: c.Fanout.Deliveries.Load(), Events: uint64(c.Cache.Events.Load()), Messages: c.Net.Messages.Load(),
			HTTPRequests: c.Net.Requests.Load(), BytesIn: c.Net.BytesIn.Load(), BytesOut: c.Net.BytesOut.Load(),
			ServiceRequests: c.NATS.Requests.Load(), Timeouts: c.NATS.Timeouts.Load(), Accepted: c.Net.Accepted.Load(),
		},
		Now: Levels{
			Sessions: c.Session.Sessions.Load(), Subscriptions: c.Session.Subscriptions.Load(), Topics: c.Fanout.Topics.Load(),
			Resources: c.Cache.Resources.Load(), CacheBytes: c.Cache.Bytes.Load(), Unused: c.Cache.Unused.Load(),
			BacklogBytes: c.Net.BacklogBytes.Load(), Requests: c.NATS.Pending.Load(),
		},
		Memory: Memory{Live: memory.Read().Used, Limit: memory.Current(), Level: c.Memory.Level().String(), Goroutines: runtime.NumGoroutine()},
	}
	if err := s.gw.Ready(); err != nil {
		o.NotReady = err.Error()
	}
	if s.level != nil {
		o.LogLevel = levelName(s.level.Level())
	}
	o.Services = s.services()
	o.Loops, o.Shards = s.owners(ctx)
	s.measured(o)
	return o
}

// measured adds what the event loops measure themselves.
func (s *Server) measured(o *Overview) {
	from := s.gw.Counters.Owners
	if from == nil {
		return
	}
	loops := from.Loops()
	latency := new(metrics.Histogram)
	for _, m := range loops {
		latency.AddDurations(&m.Latency)
	}
	o.Totals.TimedEvents, o.Totals.EventsSeconds = latency.Count(), latency.Sum()
	now := from.Now()
	for i := range o.Loops {
		if l := &o.Loops[i]; l.Index < len(loops) {
			l.BusyMs = loops[l.Index].Busy(now).Milliseconds()
		}
	}
}

func (s *Server) services() []ServiceState {
	all := []ServiceState{}
	if t := s.gw.Counters.Services; t != nil {
		t.Each(func(v *limit.Service) {
			if len(all) == maxServices {
				return
			}
			st := v.State()
			row := ServiceState{Name: v.Name(), Limit: st.Limit, InFlight: st.InFlight, Timeouts: st.Silent}
			for _, n := range st.Queued {
				row.Queued += n
			}
			all = append(all, row)
		})
	}
	return all
}

// owners asks each owner how it is. The time that the answer takes shows its load.
func (s *Server) owners(ctx context.Context) ([]LoopState, []ShardState) {
	ctx, cancel := context.WithTimeout(ctx, ownerWithin)
	defer cancel()
	loops, shards := s.gw.Loops(), s.gw.Shards()
	askedLoops, askedShards := make([]LoopState, len(loops)), make([]ShardState, len(shards))
	done := make(chan struct{}, len(loops)+len(shards))
	for i, l := range loops {
		go func() {
			defer func() { done <- struct{}{} }()
			waiting, asked := l.Waiting(), time.Now()
			st, err := ask(ctx, l.Post, func() LoopState {
				return LoopState{
					Index: l.Net.Index(), Connections: l.Net.Conns(), Topics: l.Env.Hub.Len(), Requests: l.Env.Requests(),
					DelayMicros: time.Since(asked).Microseconds(),
				}
			})
			if err != nil {
				st = LoopState{Index: l.Net.Index(), DelayMicros: time.Since(asked).Microseconds(), Late: true}
			}
			st.Mailbox = waiting
			askedLoops[i] = st
		}()
	}
	for i, sh := range shards {
		go func() {
			defer func() { done <- struct{}{} }()
			waiting, asked := sh.Cache.Pending(), time.Now()
			delay, err := ask(ctx, sh.Cache.Run, func() time.Duration { return time.Since(asked) })
			if err != nil {
				delay = time.Since(asked)
			}
			askedShards[i] = ShardState{Index: i, Mailbox: waiting, DelayMicros: delay.Microseconds(), Late: err != nil}
		}()
	}
	for range cap(done) {
		<-done
	}
	return askedLoops, askedShards
}

// showConfig returns the settings in use; those with credentials are not shown.
func (s *Server) showConfig(context.Context, *http.Request) (any, error) {
	return config.Shown(*s.gw.Running()), nil
}
