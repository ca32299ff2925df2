package limit

// Priority says which of the requests that wait for a service is sent first.
type Priority uint8

// The priorities, the most urgent first.
const (
	// Call is what a person waits for: calls, auth requests, and access requests for calls.
	Call Priority = iota
	// Load is a get that all subscribers of a resource share, and the access request before it.
	Load
	// Access is an access request for one client, as after a reconnect.
	Access
	// Refresh is a request that no client waits for: re-gets, and access rechecks after a reset.
	Refresh
	// Priorities is their number.
	Priorities
)

func (p Priority) String() string {
	switch p {
	case Call:
		return "call"
	case Load:
		return "load"
	case Access:
		return "access"
	case Refresh:
		return "refresh"
	}
	return "unknown"
}

// Kind is a kind of request with a latency of its own.
type Kind uint8

// The kinds of requests (RES.md 3.1).
const (
	KindAccess Kind = iota
	KindGet
	KindCall
	KindAuth
	KindQuery // all others: a query request has the subject that the service chose
	// Kinds is their number.
	Kinds
)

func (k Kind) String() string { return [...]string{"access", "get", "call", "auth", "query"}[k] }

// KindOf returns the kind of a request by its subject.
func KindOf(subject string) Kind {
	switch {
	case hasPrefix(subject, "access."):
		return KindAccess
	case hasPrefix(subject, "get."):
		return KindGet
	case hasPrefix(subject, "call."):
		return KindCall
	case hasPrefix(subject, "auth."):
		return KindAuth
	}
	return KindQuery
}

func hasPrefix(s, prefix string) bool { return len(s) >= len(prefix) && s[:len(prefix)] == prefix }
