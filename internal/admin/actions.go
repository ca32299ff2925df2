package admin

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"

	"sluice/internal/config"
	"sluice/internal/res"
	"sluice/netpoll"
	"sluice/wsproto"
)

// Done is the response of an action.
type Done struct {
	Done string `json:"done"`
}

// disconnect closes a client: a WebSocket with 1008, a stream by its end.
func (s *Server) disconnect(ctx context.Context, r *http.Request) (any, error) {
	cid := r.PathValue("cid")
	who, l, err := s.findLoop(cid)
	if err != nil {
		return nil, err
	}
	if who.Number > 0 {
		return nil, refuse(http.StatusConflict, "%s is an HTTP request: it ends with its response", cid)
	}
	found, err := ask(ctx, l.Post, func() bool {
		c := l.Net.Conn(who.Conn)
		if c == nil || c.Closing() {
			return false
		}
		netpoll.Because(c, netpoll.CauseOperator)
		c.Close(wsproto.ClosePolicy, "closed by an operator")
		return true
	})
	switch {
	case err != nil:
		return nil, late("event loop", who.Loop)
	case !found:
		return nil, notOpen(cid)
	}
	s.log.Info("admin: client disconnected", "cid", cid, "by", r.RemoteAddr)
	return Done{"disconnected " + cid}, nil
}

// maxPatterns bounds the patterns of a reset.
const maxPatterns = 100

// reset has resources refetched and access requested again, as system.reset does.
func (s *Server) reset(_ context.Context, r *http.Request) (any, error) {
	var body struct {
		Resources []string `json:"resources"`
		Access    []string `json:"access"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	all := append(append([]string{}, body.Resources...), body.Access...)
	if len(all) == 0 || len(all) > maxPatterns {
		return nil, refuse(http.StatusBadRequest, "resources and access must have 1 to %d patterns together", maxPatterns)
	}
	for _, text := range all {
		if _, ok := res.ParsePattern(text); !ok {
			return nil, refuse(http.StatusBadRequest, "%q is not a pattern of resource names, such as library.> or library.*.title", clip(text))
		}
	}
	event, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	s.gw.System("reset", event)
	s.log.Info("admin: reset", "resources", body.Resources, "access", body.Access, "by", r.RemoteAddr)
	return Done{"reset: what matches is fetched again; clients get the differences"}, nil
}

// Flushed is the response of POST /api/flush.
type Flushed struct {
	Evicted   int `json:"evicted"`   // values without subscribers
	Refetched int `json:"refetched"` // values with subscribers
}

// flush drops what is cached of a resource name.
func (s *Server) flush(ctx context.Context, r *http.Request) (any, error) {
	var body struct {
		Name string `json:"name"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if !res.ValidName(body.Name) {
		return nil, refuse(http.StatusBadRequest, "name must be a resource name without a query, such as library.books")
	}
	got := make(chan Flushed, 1)
	s.gw.ShardOf(body.Name).Cache.Discard(body.Name, func(evicted, refetched int) { got <- Flushed{evicted, refetched} })
	select {
	case f := <-got:
		s.log.Info("admin: cache flushed", "resource", body.Name, "evicted", f.Evicted, "refetched", f.Refetched, "by", r.RemoteAddr)
		return f, nil
	case <-ctx.Done():
		return nil, refuse(http.StatusServiceUnavailable, "the resource's cache shard does not answer within %v", answerWithin)
	}
}

// levels are the log levels by name, the lowest first.
var levels = []struct {
	name  string
	level slog.Level
}{{"trace", config.LevelTrace}, {"debug", slog.LevelDebug}, {"info", slog.LevelInfo}, {"warn", slog.LevelWarn}, {"error", slog.LevelError}}

func levelName(l slog.Level) string {
	name := levels[0].name
	for _, v := range levels {
		if l >= v.level {
			name = v.name
		}
	}
	return name
}

// LogLevel is the response of GET /api/log, and the body of POST /api/log.
type LogLevel struct {
	Level string `json:"level"`
}

func (s *Server) showLevel(context.Context, *http.Request) (any, error) {
	if s.level == nil {
		return nil, refuse(http.StatusConflict, "the program that embeds the gateway chooses the log level")
	}
	return LogLevel{levelName(s.level.Level())}, nil
}

// setLevel changes the log level until the next change, reload or start.
func (s *Server) setLevel(ctx context.Context, r *http.Request) (any, error) {
	var body LogLevel
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if s.level == nil {
		return s.showLevel(ctx, r)
	}
	for _, v := range levels {
		if strings.EqualFold(v.name, body.Level) {
			s.log.Info("admin: log level changed", "from", levelName(s.level.Level()), "to", v.name, "by", r.RemoteAddr)
			s.level.Set(v.level)
			return LogLevel{v.name}, nil
		}
	}
	return nil, refuse(http.StatusBadRequest, "level must be trace, debug, info, warn or error")
}

// profiles adds the profiles of the Go runtime. The command line is not served whole: a flag may
// have credentials.
func profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, os.Args[0])
	})
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}
