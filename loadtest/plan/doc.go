// Package plan says what a load test runs: the targets, which are the servers to
// measure, and the scenarios, each with its kind, clients, rate and duration. It
// reads plans from YAML, fills in defaults, and rejects what cannot run.
//
// It owns the form of plan files. It starts nothing, opens no socket, and never
// judges a figure.
package plan
