// Package cache owns the resources: each shard is one goroutine that holds the resources whose names hash to it, asks
// services for them over the Bus, applies their events, and tells the interested loops (RES.md section 3.2).
//
// It never touches a connection or a client's message, never asks for access, never blocks, and takes no lock on the path
// of an event. A shard's state belongs to its goroutine alone; everybody else puts messages into its mailbox.
//
// # How order is kept
//
// All rules of the protocol about order follow from one: a shard handles messages in the order in which they were put.
// The NATS dispatcher puts events and answers in the order of arrival, so an event that came before a get's answer finds
// no state to apply to and is dropped, and one that came after it is applied to the answer. The one exception is a name that
// waits for the answers to a query event: its events and its re-gets' answers then queue up behind these (see lock.go).
//
// # Words
//
//   - A resource is a name: a NATS subscription, and entries.
//   - An entry is a value under a normalised query, empty for the plain resource: what a service knows as one thing.
//   - A link leads from a query that clients use to the entry whose normalised query is another.
//   - A sub is one loop's interest in one client-visible rid. The loop names it by a Ref that it never uses again, so a
//     message about a forgotten sub cannot be taken for one about its successor.
//   - A fetch is a get request under way: the first one of an entry, or a re-get after a reset.
//
// # Reading order
//
// shard.go (messages and turns), resource.go, entry.go, fetch.go, event.go, lock.go (query events), deliver.go (what
// loops get and what they miss), reset.go and index.go, loss.go.
package cache
