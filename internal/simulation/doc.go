// Package simulation runs worlds: a gateway, but for its sockets, NATS and goroutines, with clients
// and services, all on one goroutine and in time of its own. Which of them does what next is a
// sequence of choices that follows from a seed. So what fails once fails again, and the sequence
// can be made shorter as long as it fails.
//
// The gateway's event loops, cache shards, and the publishers and dispatchers of its connections to
// NATS are those of a program; netpoll.Driven and natsbus.Driven have them work one at a time. A
// step runs one of them until it waits, moves one message on one way (NATS, a client's socket), or
// has a client, a service, the network or the clock do something.
//
// It never looks into the gateway's state to judge it, except for counters that must be 0 in the
// end: a world is judged by what its clients and services receive (package resmodel).
package simulation
