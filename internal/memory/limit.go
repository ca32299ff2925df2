// Package memory decides how much memory the process may use, and watches how much of it is in use.
// It reads the limits of control groups, sets the Go runtime's limit and pace, and reports levels
// of pressure to its caller.
//
// It never frees anything itself: what to shed at which level is the caller's business.
package memory

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"
)

// Sources of a Limit.
const (
	FromSetting = "memoryLimit"
	FromEnviron = "GOMEMLIMIT"
	FromCgroup  = "cgroup"
)

// groupShare is the part of a control group's limit that the Go runtime gets, in percent. The rest
// is for what the runtime does not count, but the kernel charges to the group: sockets and their
// buffers, rings, page tables, and the program itself.
const groupShare = 80

// Limit is how much memory the Go runtime may use.
type Limit struct {
	Bytes  int64  // 0: no limit
	Source string // what decided; empty: nothing did
	Group  int64  // bytes that the control group allows, if Source is FromCgroup
}

// Find returns the limit for a process: the setting if it is not 0, else what the runtime has from
// its environment variable GOMEMLIMIT, whose text is environ, else a share of the control group's
// limit. root is that of Cgroup.
func Find(setting int64, environ, root string) Limit {
	if setting > 0 {
		return Limit{Bytes: setting, Source: FromSetting}
	}
	if environ != "" {
		return Limit{Bytes: Current(), Source: FromEnviron}
	}
	if group, ok := Cgroup(root); ok {
		return Limit{Bytes: group / 100 * groupShare, Source: FromCgroup, Group: group}
	}
	return Limit{}
}

// Apply sets the runtime's limit.
func (l Limit) Apply() {
	if l.Bytes > 0 {
		debug.SetMemoryLimit(l.Bytes)
	}
}

// Set sets the Go runtime's memory limit: to the setting in bytes, or to a share of the control
// group's limit unless the environment's GOMEMLIMIT says what it shall be. A program calls it once,
// before it asks for a Share.
func Set(setting int64, log *slog.Logger) {
	limit := Find(setting, os.Getenv("GOMEMLIMIT"), "/")
	limit.Apply()
	switch limit.Source {
	case "":
		log.Debug("no memory limit: neither memoryLimit, GOMEMLIMIT nor a control group sets one")
	case FromCgroup:
		log.Info("memory limit", "bytes", limit.Bytes, "source", limit.Source, "group", limit.Group)
	default:
		log.Info("memory limit", "bytes", limit.Bytes, "source", limit.Source)
	}
}

// Share returns a budget in bytes: what the user has set, else the given part of what is available,
// within bounds.
func Share(set int, part, low, high int64) int {
	if set > 0 {
		return set
	}
	return int(min(max(Available("/")/part, low), high))
}

// unknown is what Available returns on a machine whose memory is unknown.
const unknown = 4 << 30

// Available returns how many bytes the process can count on: the runtime's limit, else the same
// share of the machine's memory that it would get of a control group's. root is that of Cgroup.
func Available(root string) int64 {
	if n := Current(); n > 0 {
		return n
	}
	if n := Machine(root); n > 0 {
		return n / 100 * groupShare
	}
	return unknown
}

// Current returns the runtime's limit in bytes, 0 if there is none.
func Current() int64 {
	if n := debug.SetMemoryLimit(-1); n < math.MaxInt64 {
		return n
	}
	return 0
}
