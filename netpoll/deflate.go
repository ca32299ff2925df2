package netpoll

// EnableDeflate makes the connection take compressed messages. The Handler
// calls it before it accepts an upgrade whose answer says that
// permessage-deflate was negotiated (wsproto.NegotiateDeflate).
func (c *Conn) EnableDeflate() { c.parser.EnableDeflate() }
