package main

import "runtime/debug"

// stamped is set by the linker when a release is built:
//
//	go build -ldflags "-X main.stamped=v1.2.3" ./cmd/sluice
var stamped string

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
