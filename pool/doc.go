// Package pool owns reusable memory: arenas of immutable messages that outboxes share, and size-classed
// buffers for transient use. It never looks at the bytes, and nothing it hands out has a hidden owner:
// every type says who may use it and until when.
package pool
