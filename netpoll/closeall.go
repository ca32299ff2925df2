package netpoll

// CloseAll closes every WebSocket connection of the loop; what is queued for
// them is sent before. Streams are finished, pending upgrades refused with 503.
// Connections that have sent no whole request head yet stay, and so do those
// of plain requests.
func (l *Loop) CloseAll(code uint16, reason string) {
	for i := range l.table.slots {
		if c := l.table.slots[i].conn; c != nil {
			c.Close(code, reason)
		}
	}
}
