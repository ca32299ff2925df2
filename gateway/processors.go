package gateway

import (
	"os"
	"runtime"

	"sluice/internal/config"
	"sluice/netpoll"
)

// SpareProcessor gives Go's scheduler one processor (P) more than there are
// cores where event loops need it, unless the environment's GOMAXPROCS says how
// many there shall be. A program calls it once, before Start.
//
// They need it where one that waits for its sockets keeps its P until Go's
// monitor takes it away, which looks every 20 µs to 10 ms. With as many loops as
// Ps, what NATS has to say finds none: a request would wait for milliseconds, and
// a monitor that has something to take away looks often, which costs a tenth of
// a core.
func SpareProcessor() {
	if n := config.Cores(); netpoll.HoldsProcessor && os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(n + 1)
	}
}
