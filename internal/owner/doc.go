// Package owner has the parts of an owner loop: the mailbox through which others reach it, the
// clock that it reads once per turn, the timing wheel of its deadlines, the ticker that connects
// the two, and the throttle that limits concurrent work across owners.
//
// It owns no goroutine and no state: the creator of a value owns it. It never blocks an owner,
// never polls, and knows nothing of connections, resources or NATS.
package owner
