//go:build !race

package natsbus

// poolForgets: under the race detector sync.Pool drops some of what it is given.
const poolForgets = false
