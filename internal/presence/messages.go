package presence

import (
	"encoding/json"
	"strconv"

	"sluice/internal/res"
)

// subjects are those of the gateway's own messages.
type subjects struct{ heartbeat, connections, claim string }

// wake is the subject by which services ask all gateways for a heartbeat now.
const wake = "gateways.heartbeat"

func subjectsOf(gid string) subjects {
	prefix := "gateway." + gid
	return subjects{heartbeat: prefix, connections: prefix + ".connections", claim: prefix + ".claim"}
}

func (s *subjects) all() []string { return []string{s.heartbeat, s.connections, s.claim, wake} }

// heartbeat is what a gateway says of itself.
type heartbeat struct {
	GID       string `json:"gid"`
	Instance  string `json:"instance"`
	Version   string `json:"version"`
	Started   int64  `json:"started"`  // Unix time in milliseconds
	Interval  int64  `json:"interval"` // milliseconds
	Draining  bool   `json:"draining"`
	TakesOver bool   `json:"takesOver"`
	Stopped   bool   `json:"stopped"`
}

// maxHeartbeat bounds what is taken for a heartbeat, in bytes.
const maxHeartbeat = 4096

// parseHeartbeat reads a heartbeat, or a claim. ok is false if data is none.
func parseHeartbeat(data []byte) (h heartbeat, ok bool) {
	if len(data) > maxHeartbeat || json.Unmarshal(data, &h) != nil || h.Instance == "" {
		return heartbeat{}, false
	}
	return h, true
}

// appendHeartbeat appends the gateway's heartbeat. mu is held, or the tracker has not started.
func (t *Tracker) appendHeartbeat(dst []byte, stopped bool) []byte {
	dst = t.appendSelf(dst)
	dst = append(dst, `,"version":`...)
	dst = res.AppendString(dst, t.o.Version)
	dst = append(dst, `,"started":`...)
	dst = strconv.AppendInt(dst, t.started, 10)
	dst = append(dst, `,"interval":`...)
	dst = strconv.AppendInt(dst, t.o.Interval.Milliseconds(), 10)
	dst = append(dst, `,"connections":`...)
	dst = strconv.AppendInt(dst, int64(len(t.clients)), 10)
	dst = append(dst, `,"seq":`...)
	dst = strconv.AppendUint(dst, t.seq, 10)
	dst = append(dst, `,"draining":`...)
	dst = strconv.AppendBool(dst, t.env.Draining())
	if t.o.TakesOver {
		dst = append(dst, `,"takesOver":true`...)
	}
	if stopped {
		dst = append(dst, `,"stopped":true`...)
	}
	return append(dst, '}')
}

// appendSelf appends the beginning of an object, with the members that name the gateway.
func (t *Tracker) appendSelf(dst []byte) []byte {
	dst = append(dst, `{"gid":`...)
	dst = res.AppendString(dst, t.o.GID)
	dst = append(dst, `,"instance":`...)
	return res.AppendString(dst, t.o.Instance)
}

// appendEvent appends the payload of an event, the next one.
func (t *Tracker) appendEvent(dst []byte, e *event) []byte {
	dst = t.appendSelf(dst)
	dst = append(dst, `,"seq":`...)
	dst = strconv.AppendUint(dst, t.seq+1, 10)
	about := &e.client.Change
	if e.closed != nil {
		about = e.closed
	}
	dst = append(dst, ',')
	dst = about.appendMembers(dst)
	if e.closed != nil {
		dst = append(dst, `,"reason":`...)
		dst = res.AppendString(dst, e.closed.Reason)
		if e.closed.Code != 0 {
			dst = append(dst, `,"code":`...)
			dst = strconv.AppendUint(dst, uint64(e.closed.Code), 10)
		}
	}
	return append(dst, '}')
}

// appendMembers appends what describes a client.
func (c *Change) appendMembers(dst []byte) []byte {
	transport := `"transport":"websocket"`
	if c.Stream {
		transport = `"transport":"sse"`
	}
	dst = append(append(dst, transport...), `,"remoteAddr":`...)
	dst = res.AppendString(dst, c.RemoteAddr)
	if c.Protocol != "" {
		dst = append(dst, `,"protocol":`...)
		dst = res.AppendString(dst, c.Protocol)
	}
	if c.TokenID != "" {
		dst = append(dst, `,"tid":`...)
		dst = res.AppendString(dst, c.TokenID)
	}
	return dst
}
