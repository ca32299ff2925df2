// Package cache owns the resources. Each shard is one goroutine that has the resources whose names
// hash to it. It gets them from services over the Bus, applies their events, and sends updates to
// the subscribed loops (RES.md section 3.2).
//
// It never touches a connection or a client's message, never asks for access, never blocks, and
// takes no lock on the path of an event. Only the shard's goroutine touches its state; all others
// put messages into its mailbox.
//
// # How order is kept
//
// All rules of the protocol about order follow from one: a shard handles messages in the order in
// which they were put. The NATS dispatcher puts events and replies in the order of arrival. So an
// event that arrived before a get's reply finds no state and is dropped, and one that arrived after
// it is applied to the reply's state. There is one exception. While a name waits for the replies to
// a query event, its events and the replies to its re-gets are deferred (see lock.go).
//
// # Words
//
//   - A resource is a name: a NATS subscription, and entries.
//   - An entry is a value under a normalised query, empty for the plain resource.
//   - A link leads from a client's query to the entry of its normalised query.
//   - A sub is one loop's subscription of one client-visible resource ID. The loop names it by a
//     ref that
//     it never uses again, so an update for an ended sub cannot reach its successor.
//   - A fetch is a get request in flight: the first get of an entry, or a re-get, which refetches
//     it.
//
// # Reading order
//
// shard.go (messages), worker.go and inbox.go (goroutine and mailbox), fault.go (turns),
// resource.go, entry.go, fetch.go, event.go, lock.go (query events), deliver.go (updates to loops),
// reset.go and index.go, loss.go, unused.go (eviction), large.go (resources that are too large).
package cache
