// Command sluice is the gateway's binary. It owns what makes a process of it:
// arguments, environment, log output, signals and exit codes. It never decides
// how the gateway works: that is up to the packages gateway and demo.
//
// Exit codes: 0 after a stop that was asked for, also if clients were cut at its
// end; 1 if NATS cannot be reached, the gateway fails, or a second signal ends a
// stop; 2 if the settings are wrong.
package main

import (
	"os"
	"os/signal"
	"syscall"

	"sluice/internal/config"
	"sluice/netpoll"
)

func main() {
	netpoll.SpareProcessor(config.Cores())
	// Room for the two that count: one drains, the next one leaves at once.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	hangups := make(chan os.Signal, 1) // one that is pending stands for all
	signal.Notify(hangups, syscall.SIGHUP)
	upgrades := make(chan os.Signal, 1) // as for hangups
	signal.Notify(upgrades, syscall.SIGUSR2)
	p := process{environ: os.Environ(), stdout: os.Stdout, stderr: os.Stderr, signals: signals, hangups: hangups, upgrades: upgrades}
	os.Exit(p.run(os.Args[1:]))
}
