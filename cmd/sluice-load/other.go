//go:build !linux

package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Fprintf(os.Stderr, "sluice-load: runs on Linux only, not on %s: its clients need epoll, its figures /proc. A gateway elsewhere can be measured from a Linux machine with \"run -url\".\n", runtime.GOOS)
	os.Exit(1)
}
