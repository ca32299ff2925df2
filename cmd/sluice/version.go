package main

import "runtime/debug"

// stamped and stampedCommit are set by the linker when a release is built:
//
//	go build -ldflags "-X main.stamped=v1.2.3 -X main.stampedCommit=0123abc" ./cmd/sluice
var stamped, stampedCommit string

// version is the stamped one, else what the Go tool knows of the source.
func version() string {
	if stamped != "" {
		return stamped
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// commit is the stamped one, else what the Go tool knows of the source; empty if that is nothing.
func commit() string {
	if stampedCommit != "" {
		return stampedCommit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
