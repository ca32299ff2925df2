package natsbus

import "sluice/internal/owner"

// contained does what nats.go calls back for, on a goroutine of nats.go. After a panic it is
// unknown what the link has missed, so a Gap follows.
func contained(l *link, callback func()) {
	done := false
	defer func() {
		if !done {
			l.emit(change{to: Gap})
		}
	}()
	defer l.opts.Faults.Contain(owner.Dispatcher, "connection", l.number)
	callback()
	done = true
}
