// Package pool owns reusable memory: arenas of immutable messages that outboxes share, and
// size-classed buffers for transient use. It never reads the bytes, and hands out nothing with a
// hidden owner: the comment of each type states who may use it and for how long.
package pool
