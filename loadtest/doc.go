// Package loadtest measures realtime gateways: it starts one (or uses one that
// runs), plays its clients and its services, drives it through scenarios, and
// says what that cost the server. Gateways are seen only from outside, by their
// sockets and by what the kernel counts of their processes, so that the same
// figure means the same for each.
//
// It owns the order of a run: Plan says what to run, a stage is one server with
// its clients and service, a Cell is one scenario's measurement on a stage, and
// Report all of them with their medians. The parts are below it: client (the
// clients), floor (the harness's own server), proc (processes), hist
// (latencies), report (tables and pages).
//
// It never counts a latency from when a message was sent, only from when it was
// due; it never leaves a process running that it started; it does not hide a
// failed run, and does not call a figure the server's when the clients, the
// machine or the harness itself were the limit, but refuses it or calls it a
// bound: see judge and take. It runs on Linux only.
package loadtest
