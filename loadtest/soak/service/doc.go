// Package service is a RES service of the soak, which runs in a process of its own so that it can
// be frozen and killed. It changes its resources at random, publishes events with sequence numbers,
// counts calls, revokes access and gives it back, and can state at any time what is true.
//
// It owns its resources (package resmodel) and one connection to NATS. It never decides what
// happens to it: the soak commands it over its standard input.
package service
