// Package takeover hands a gateway's work over from one process to the next, so that a new binary
// or configuration is in service without a moment in which nobody listens. docs/upgrade.md has the
// sequence and the protocol.
//
// The old process starts the new one as its child and keeps one end of a socket pair (Start). Over
// it go records with descriptors attached to them: first the listening sockets. The new process
// (Inherit) serves on them and says so; only then does the old one stop accepting. Until that
// moment, which is the point of no return, any error, version mismatch or timeout ends the new
// process, and the old one goes on as if nothing had happened.
//
// A process that something else has started asks for the same at a socket (Join, Attach).
//
// It never decides what is handed over, nor how a gateway starts or stops: package main does.
package takeover
