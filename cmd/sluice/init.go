package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"sluice/internal/initproc"
)

// first runs the program with args, and lives until the last process that takes over has ended.
func (p *process) first(args []string) int {
	if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
		return p.run(args)
	}
	path, err := os.Executable()
	if err == nil {
		signals := make(chan os.Signal, 8)
		signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR2)
		var code int
		if code, err = initproc.Run(path, args, p.environ, signals); err == nil {
			return code
		}
	}
	_, _ = fmt.Fprintf(p.stderr, "sluice: %v\n", err)
	return exitFailure
}
