// Package owners connects the owners of a gateway: its cache shards, its event loops and the
// dispatchers of its NATS connections. It has what a loop keeps beside its connections (Loop), what
// netpoll calls on a loop (handler), and the messages between owners: from NATS to shards and loops
// (router), from shards to loops (mailboxes), and when a NATS connection comes and goes (signals).
//
// It never interprets RES: session, cache and fanout do. It starts and stops nothing by itself: the
// gateway does.
package owners
