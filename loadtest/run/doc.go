// Package run executes a plan. It starts each target with its NATS server, the
// service and the clients. It drives them through the scenarios round by round,
// and reads from the kernel what that cost the server.
//
// It owns the order of a run and all processes that it starts. A stage is one
// target with its clients and service. Neighbouring scenarios share a stage if
// they need the same clients; each gives one result.Cell.
//
// It counts latencies from the due time, never from the time of sending. It leaves
// no process behind that it started, never hides a failed scenario, and leaves the
// verdict on each figure to package judge. It runs on Linux only.
package run
