// Package relay is an origin shield: it stands between the NATS of the services (home) and the NATS
// of gateways elsewhere (edge). It answers get requests of all edges from one cache, so that a
// service sees one get per resource, and passes everything else through with its order.
//
// The cache is a shard of package cache, with its bus to home. To the shard, edges are one loop:
// what a loop would send to clients, the relay publishes at edge. It never talks to clients, never
// decides on access, and changes no reply of a call.
//
// # Owners
//
// The front, which is all state of resources downstream, belongs to the shard's goroutine: the
// shard's updates, the edges' requests and the replies from home reach it in one order. There is
// one shard, and one connection to edge (downlink.Link) with one publisher. So answers and events
// of a resource, and the events before a call's reply, leave in the order in which they arrived.
// The keeper has the lease and a second connection to edge, which only serves for the lease and for
// finding loops.
//
// # Interest
//
// An edge says that it wants a resource (get), but never that it does not. So a resource that was
// asked for is a topic: the shard follows it, and its events are published, until memory is
// needed. Then the name that was asked for least recently is dropped, with a system.reset for it:
// edges that still use it ask again.
//
// # Events
//
// State events are encoded again from what the shard has applied: what changes nothing is left out,
// and the differences after a reset at home are change, add and remove events like any other. A
// long difference is a system.reset of the name instead, since the answers cost nothing at home.
// Custom events are passed as they are. While the publisher has too much queued, the shard sends
// the front no state events, and later the newest state.
//
// Events of query resources cannot be published: they are replies to query requests. So the front
// collects what a turn changes of a name's query resources into a round, publishes a query event
// with a subject of its own, and answers edges' requests from the round (query.go).
//
// # Losses
//
// Loss of home: the shard refetches everything and publishes the differences; access is rechecked.
// Beyond the grace period the relay gives up the lease, so that a standby with a working connection
// takes over. Loss of edge, a takeover, a restart: edges may have missed anything, and get one
// system.reset for everything, not more often than each resetPause. They ask again at their own
// throttle, and the cache is asked at most once for each resource.
//
// A reset by the relay must not do harm: edges delete a resource whose get finds no service, so for
// doubtFor after a reset such a get times out instead, and the name is reset again later (owed.go).
//
// # One at a time
//
// Relays with the same edge take turns by lease (package lease). The connection that serves edges
// is fenced by it: its socket accepts no write once the lease is over, however long the process was
// stopped. Relays notice loops by messages with the ids of the relays that passed them (path.go).
package relay
