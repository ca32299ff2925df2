package netpoll

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"time"

	"sluice/internal/alternate"
	"sluice/internal/owner"
	"sluice/internal/ratelimit"
	"sluice/wsproto"
)

// maxLoops is how many loops a Handle can tell apart.
const maxLoops = 1 << handleLoopBits

// Handler handles the events of an Engine's connections. Every call for a loop or a connection is
// made on its event loop and must not block; calls for different loops are concurrent.
type Handler interface {
	// Start is called once for each loop, before any other call for it, and before Engine.Start
	// returns.
	Start(l *Loop)
	// Upgrade judges a valid WebSocket handshake: 0 accepts, a positive result is the HTTP status
	// of the refusal. With Pending the decision is left open: Conn.Accept or Conn.Refuse must
	// follow. Until then Loop.Conn finds the connection by its handle, input is buffered, and
	// Limits.HeadTimeout still runs; the client may close the connection. h is valid during the
	// call only.
	Upgrade(c *Conn, h *wsproto.Head) (status int)
	// Open follows an accepted upgrade. Output of Conn.Send follows the response to the handshake.
	// h is valid during the call only.
	Open(c *Conn, h *wsproto.Head)
	// Message is called for each complete text or binary message; payload is valid until it
	// returns. It is not called any more once Conn.Close was called or the peer has begun to close.
	Message(c *Conn, payload []byte)
	// Stream is called for each complete request head that is not for a WebSocket. True keeps the
	// connection on the loop: Conn.Send sends bytes unframed, from the response's head on (during
	// the call, too, and until Conn.Finish), and input is discarded. False, with nothing sent, goes
	// on with Request. h is valid during the call only.
	Stream(c *Conn, h *wsproto.Head) bool
	// Request is called for each plain request that Stream has declined, once its body is complete:
	// an HTTP/1.1 request that every parser reads alike (see wsproto.Head.Plain), its body within
	// Limits.MaxBody. True keeps it: exactly one Conn.Respond must follow, during the call or
	// later; the engine sets no deadline. Until then Loop.Conn finds the connection by its handle;
	// its next request waits. False gives the connection to Options.HTTP with this request and all
	// that follow. h and body are valid during the call only.
	Request(c *Conn, h *wsproto.Head, body []byte) bool
	// Lagging is called at the end of an iteration in which a connection's Conn.Lagging has
	// changed, perhaps more than once. The Handler should send less while it is true, and make up
	// for that afterwards.
	Lagging(c *Conn)
	// Closed is called exactly once for each connection that the Handler knows: for which Upgrade
	// returned Pending, Open was called, or Stream returned true; or for which Request returned
	// true and the response has not been written. So a pending upgrade ends with Closed, without
	// Open, if it was rejected, timed out or was closed by the client. Conn's methods do nothing
	// any more; Session, Handle and Loop are still valid.
	Closed(c *Conn)
	// Iterate is called in every iteration of the loop, when its timers have fired and its input
	// has been handled, before anything is written: after a Wake, and also without one. It is
	// called once more if a deadline of owner.Wheel.Expect has passed since.
	Iterate(l *Loop)
}

// Holder knows what is held back for connections that lag, instead of being sent. It counts for
// Limits.BacklogBytes.
type Holder interface {
	// Held returns how many bytes are held back for all connections. Any goroutine may call it.
	Held() int64
	// HeldFor returns c's part of them: of what connections share, a share. A part may be larger
	// than what is free without its connection.
	HeldFor(c *Conn) int64
	// Drop is called when c is being closed because it lags: nothing more should be held for it.
	// Closed follows.
	Drop(c *Conn)
}

// Limits bounds what clients can take. Zero values mean the defaults given.
type Limits struct {
	MaxConns     int           // concurrent connections, plain HTTP included; 0: as many as descriptors allow
	ReserveFDs   int           // descriptors reserved for purposes other than clients; 64
	AcceptRate   int           // connections accepted per second, each loop its part; 0: any number
	AcceptPace   int           // WebSockets that a loop opens per second before it leaves others to the kernel's queue; 0: any number
	MaxHead      int           // bytes of a request head; 64 KiB
	MaxMessage   int           // bytes of a WebSocket message; 1 MiB
	HeadTimeout  time.Duration // from accept to the end of the request head and the decision on it; 10 s
	OutboxBytes  int           // bytes queued for a client, beyond which it is closed with 1013; 4 MiB
	BacklogBytes int           // bytes queued for all slow clients, beyond which the worst are closed; 256 MiB
	SlowTimeout  time.Duration // for a slow client to take something, else it is closed with 1013; 30 s, negative: any
	PingInterval time.Duration // time without input after which a client is pinged; 30 s, negative: never
	PongTimeout  time.Duration // further time without input after which it is closed; 10 s
	MaxBody      int           // bytes of a plain request's body that Handler.Request gets; 64 KiB, negative: none
	IdleTimeout  time.Duration // from the response to a plain request to the next one; 6 min
	BodyTimeout  time.Duration // from the end of a request's head to that of its body; 30 s
	ReadTimeout  time.Duration // for a client to read the response to a plain request; 30 s
	CloseTimeout time.Duration // for the rest of the outbox and the close handshake; 5 s
	DrainWindow  time.Duration // over which Stop spreads the closing of clients; 5 s, negative: none

	// What one client may send on its WebSocket or stream, per second. Up to ratelimit.Window's
	// worth may come at once; then it is read at that rate. 0: no limit.
	MessageRate ratelimit.Rate // frames: of a message in several, each counts
	ByteRate    ratelimit.Rate // bytes, frame headers included

	HandshakeTimeout time.Duration // for a whole TLS handshake, from accept or the proxy's header; 10 s
	MaxHandshakes    int           // TLS handshakes in progress on workers; 4096
	HandshakeQueue   int           // TLS handshakes that wait for a worker; 4 MaxHandshakes, negative: none
}

// Options configure an Engine. They do not change after New.
type Options struct {
	Addr    string         // host:port; an empty host means all addresses, port 0 one that is free
	Loops   int            // event loops; 0: GOMAXPROCS
	WSPath  string         // path of WebSocket upgrades; "/" by default
	Handler Handler        // required
	Holder  Holder         // nil: nothing is held back
	Others  func() int64   // bytes that wait for slow clients elsewhere, for Limits.BacklogBytes; any loop calls it; nil: none
	HTTP    func(net.Conn) // gets each plain HTTP connection that the Handler does not keep, on a goroutine of its own; nil: they get 404
	Clock   owner.Clock    // nil: the system's
	Metrics *Metrics       // nil: its own
	Log     *slog.Logger   // nil: slog.Default
	Limits  Limits
	// ResponseHeader holds zero or more complete field lines, each with its CR LF, of every
	// response that the engine makes itself: those that reject a request, and those that accept an
	// upgrade.
	ResponseHeader string
	// InputEnded is called on its loop for a stream whose client has ended its input. Output sent
	// then shows whether the client still reads. nil: the stream is finished.
	InputEnded func(c *Conn)
	// Alternates are the URLs of other gateways. Each client that Drain or Loop.CloseAll closes, or
	// that gets 503, learns one of them; nil: none. It may be used by others, too.
	Alternates *alternate.Rotation
	// Elsewhere is called on its loop for a stream before it is finished, because its client should
	// connect to the gateway at url. It may send that. nil: the client does not learn it.
	Elsewhere func(c *Conn, url string)

	Flush Flush // how loops write; "": FlushAuto

	// Faults counts and logs panics that were contained; nil: they are only contained. AfterPanic
	// is called on the loop after each panic, except those in Handler.Closed; it may be nil. It
	// must restore the Handler's invariants, and close connections whose state may be corrupted
	// with Conn.Fault. The loop has closed the connection that it was working for, if it was a
	// single one. Handler.Iterate follows.
	Faults     *owner.Faults
	AfterPanic func(l *Loop)

	// TLS makes every connection begin with a handshake; nil: plaintext. New makes a copy, whose
	// keys seal the session tickets. If NextProtos offers h2, clients that choose it go to HTTP as
	// a *tls.Conn, on which net/http speaks HTTP/2; without HTTP it is not offered. Other clients
	// with requests for net/http go there as a net.Conn with a method ConnectionState.
	TLS *tls.Config

	// Listeners are listening TCP sockets that were passed to the process, which are used in place
	// of Addr; none: Addr is listened on. The Engine takes them over.
	Listeners []net.Listener

	// Addresses limits connections by the address of their client. It may be used by others, too;
	// nil: no limits.
	Addresses *ratelimit.Addresses
	// TooManyRequests is the body of the responses with 429, in JSON; empty: a text.
	TooManyRequests string

	// ProxyFrom are the networks whose connections may begin with a PROXY protocol header (version
	// 1 or 2), which has the client's address. Without one the peer is the client.
	ProxyFrom []netip.Prefix
}

// withDefaults returns o with its zero values replaced, or an error that says what is wrong.
func (o Options) withDefaults() (Options, error) {
	if o.Handler == nil {
		return o, errors.New("netpoll: Options.Handler is missing")
	}
	if _, _, err := net.SplitHostPort(o.Addr); err != nil {
		return o, fmt.Errorf("netpoll: address %q is not host:port: %w", o.Addr, err)
	}
	if o.Loops == 0 {
		o.Loops = min(runtime.GOMAXPROCS(0), maxLoops)
	}
	if o.Loops < 1 || o.Loops > maxLoops {
		return o, fmt.Errorf("netpoll: %d event loops: choose 1 to %d", o.Loops, maxLoops)
	}
	if o.WSPath == "" {
		o.WSPath = "/"
	}
	switch o.Flush {
	case "":
		o.Flush = FlushAuto
	case FlushAuto, FlushWrite, FlushURing:
	default:
		return o, fmt.Errorf("netpoll: the flush %q is unknown", o.Flush)
	}
	if o.Clock == nil {
		o.Clock = owner.SystemClock()
	}
	if o.Metrics == nil {
		o.Metrics = new(Metrics)
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	l := &o.Limits
	fill(&l.ReserveFDs, 64)
	fill(&l.MaxHead, wsproto.DefaultMaxHead)
	fill(&l.MaxMessage, wsproto.DefaultMaxMessage)
	fill(&l.HeadTimeout, 10*time.Second)
	fill(&l.OutboxBytes, 4<<20)
	fill(&l.BacklogBytes, 256<<20)
	fill(&l.SlowTimeout, 30*time.Second)
	fill(&l.PingInterval, 30*time.Second)
	fill(&l.PongTimeout, 10*time.Second)
	fill(&l.MaxBody, 64<<10)
	fill(&l.IdleTimeout, 6*time.Minute)
	fill(&l.BodyTimeout, 30*time.Second)
	fill(&l.ReadTimeout, 30*time.Second)
	fill(&l.CloseTimeout, 5*time.Second)
	fill(&l.DrainWindow, 5*time.Second)
	fill(&l.HandshakeTimeout, 10*time.Second)
	fill(&l.MaxHandshakes, 4096)
	fill(&l.HandshakeQueue, 4*l.MaxHandshakes)
	if l.HandshakeTimeout < 0 || l.MaxHandshakes < 0 || l.MaxConns < 0 || l.AcceptRate < 0 || l.AcceptPace < 0 || l.ReserveFDs < 0 || l.MaxHead < 0 || l.MaxMessage < 0 || l.OutboxBytes < 0 || l.BacklogBytes < 0 ||
		l.HeadTimeout < 0 || l.PongTimeout < 0 || l.CloseTimeout < 0 || l.IdleTimeout < 0 || l.BodyTimeout < 0 || l.ReadTimeout < 0 ||
		l.MessageRate < 0 || l.ByteRate < 0 {
		return o, errors.New("netpoll: a limit is negative")
	}
	if l.OutboxBytes > 1<<30 || l.MaxMessage > 1<<30 {
		return o, errors.New("netpoll: OutboxBytes and MaxMessage may be at most 1 GiB")
	}
	return o, nil
}

func fill[T int | time.Duration](v *T, standard T) {
	if *v == 0 {
		*v = standard
	}
}
