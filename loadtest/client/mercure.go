//go:build linux

package client

// mercureDriver is the subscribing side of the Mercure protocol: a GET request that names the
// topics, and their events as server-sent events. The hub responds when it has subscribed the
// client. A client sends nothing after that.
type mercureDriver struct{ path string }

var _ streamer = mercureDriver{}

func (d mercureDriver) Path() (path, subprotocol string) { return d.path, "" }

func (d mercureDriver) Target(dst []byte, topics []int) []byte {
	dst = append(dst, d.path...)
	for i, topic := range topics {
		separator := byte('&')
		if i == 0 {
			separator = '?'
		}
		dst = append(append(append(dst, separator), "topic="...), Topic(topic)...)
	}
	return dst
}

// Open and Message are of WebSocket, which there is none of.
func (mercureDriver) Open(*Conn, []int) {}

func (mercureDriver) Message(c *Conn, _ []byte) { c.t.count.Strange++ }

func (mercureDriver) Request(*Conn, Kind, int, uint64) bool { return false }
