package restest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/internal/owner"
)

// shared is what all parts of a session use: its environment, waiting, and names.
type shared struct {
	env     Env
	gateway Gateway
	clock   *owner.ManualClock
	service *Service
	logs    *logBook
	wake    chan struct{} // something was received
	trace   []string      // what was sent and received so far

	vars   map[string]string
	names  []string // resource names that lines have mentioned, for quiet
	nextID int      // of hidden requests
}

func (s *shared) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// wait waits until cond holds, and reports whether it did within the watchdog's time. While it
// waits, it fires alarms that the gateway arms for a time in the past.
func (s *shared) wait(cond func() bool) bool {
	if cond() {
		return true
	}
	watchdog := time.NewTimer(s.env.Watchdog)
	defer watchdog.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.wake:
		case <-tick.C:
			s.clock.Advance(0)
		case <-watchdog.C:
			return cond()
		}
		if cond() {
			return true
		}
	}
}

func (s *shared) note(format string, a ...any) {
	s.trace = append(s.trace, fmt.Sprintf(format, a...))
}

func (s *shared) hiddenID() string {
	s.nextID++
	return strconv.Itoa(s.nextID)
}

var (
	methodNames  = regexp.MustCompile(`"method":"(subscribe|unsubscribe|get|new|call|auth)\.([^"?]+)`)
	subjectNames = regexp.MustCompile(`^(?:reply )?(access|get|call|auth|event)\.(\S+)`)
	refNames     = regexp.MustCompile(`"rid":"([^"?]+)`)
	goodName     = regexp.MustCompile(`^[!-~]{1,200}$`)
)

// learnNames remembers the resource names in a line's text.
func (s *shared) learnNames(text string) {
	lastPart := func(kind, name string) string {
		if kind == "call" || kind == "auth" || kind == "event" {
			if i := strings.LastIndexByte(name, '.'); i >= 0 {
				return name[:i]
			}
		}
		return name
	}
	for _, m := range methodNames.FindAllStringSubmatch(text, -1) {
		s.learnName(lastPart(m[1], m[2]))
	}
	if m := subjectNames.FindStringSubmatch(text); m != nil {
		s.learnName(lastPart(m[1], m[2]))
	}
	for _, m := range refNames.FindAllStringSubmatch(text, -1) {
		s.learnName(m[1])
	}
}

// learnName remembers a name if requests can be sent about it.
func (s *shared) learnName(name string) {
	if !goodName.MatchString(name) || strings.ContainsAny(name, `*>?{}$"\`) || strings.Contains("."+name+".", "..") {
		return
	}
	if !slices.Contains(s.names, name) {
		s.names = append(s.names, name)
	}
}
