// Package owner is what an owner loop is made of: the mailbox others reach it through, the clock it
// reads once per turn, the timing wheel that holds its deadlines, the ticker that binds the two, and
// the throttle that limits work in progress across owners.
//
// It owns no goroutine and no state of its own: whoever creates one of these values owns it. It never
// blocks an owner, never polls, and knows nothing of connections, resources or NATS.
package owner
