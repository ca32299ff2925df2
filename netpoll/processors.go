package netpoll

import (
	"os"
	"runtime"
)

// SpareProcessor gives Go's scheduler one processor (P) more than the given number of cores on
// systems where event loops need it, unless GOMAXPROCS is set in the environment. A program calls
// it once, before Start.
//
// They need it where a loop that waits for its sockets keeps its P until Go's system monitor
// (sysmon) retakes it, which it checks every 20 µs to 10 ms. With as many loops as Ps, there is no
// P for the goroutines of NATS: a request waits for milliseconds, and frequent checks of the
// monitor cost a tenth of a core.
func SpareProcessor(cores int) {
	if HoldsProcessor && os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(cores + 1)
	}
}
