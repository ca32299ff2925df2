//go:build !linux

package systemd

import "time"

var started = time.Now()

// monotonic returns the time since the start: these systems have no systemd.
func monotonic() time.Duration { return time.Since(started) }
