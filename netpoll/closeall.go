package netpoll

// CloseAll closes every WebSocket connection of the loop; what is queued for
// them is sent before. Connections that have sent no whole request head yet
// stay.
func (l *Loop) CloseAll(code uint16, reason string) {
	for i := range l.table.slots {
		if c := l.table.slots[i].conn; c != nil && c.state != stateHead {
			c.Close(code, reason)
		}
	}
}
