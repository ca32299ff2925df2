// Package initproc is the first process of a container in which a gateway is replaced by the
// process that takes over from it: it lives until the last of them has ended.
//
// It never starts a second program, nor one again that has ended: that is up to what runs the
// container.
package initproc
