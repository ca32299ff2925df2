// Package loadtest is the load harness: it measures realtime gateways, and this
// package only explains its parts. A load test is a sequence of four steps, each a
// package of its own:
//
//  1. plan says what to run: targets and scenarios, read from YAML or built in Go.
//  2. run executes a plan: it starts servers, service and clients, drives them
//     through the scenarios, and returns a result.Report.
//  3. judge decides which figures are the server's, and takes medians over rounds.
//     run calls it for each cell, report for the medians.
//  4. report renders a result.Report as text, Markdown, SVG and HTML.
//
// The other packages serve run. client is thousands of WebSocket connections in a
// few epoll threads. service publishes events and answers requests. floor is the
// fastest possible server, to compare with. proc starts processes and reads their
// CPU and memory. hist is the latency histogram. soak does not measure: it checks that
// clients are exact after faults of all kinds. faults causes one fault at a time, against any
// gateway; wire has the connections of both. hostile is clients that take time from others.
//
// The harness observes a gateway only from outside: by its sockets, and by what
// the kernel accounts to its process. So a figure means the same for each gateway.
// A latency counts from when an event or request was due. So neither a late
// harness nor a slow server can hide it (no coordinated omission).
//
// Words: a target is a server to measure, a scenario what is done to it. A stage is
// a target with its clients and service, while scenarios run on it. A cell is one
// scenario's figures of one target and round. A unit is what costs are divided by:
// a delivery, a connection or a request. A delivery is one event at one client. A
// trial is one rate of the search for the highest. A figure is rejected if it is
// not the server's, and a bound if the clients or the harness limited it.
//
// The root owns no code. The harness never runs elsewhere than on Linux, and the
// gateway never imports it. Example shows its use as a library; the command
// sluice-load wraps the same calls.
package loadtest
