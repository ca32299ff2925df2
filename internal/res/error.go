package res

import "strconv"

// Codes of the standard errors (RES.md section 5).
const (
	CodeNotFound            = "system.notFound"
	CodeInvalidParams       = "system.invalidParams"
	CodeInvalidQuery        = "system.invalidQuery"
	CodeInternalError       = "system.internalError"
	CodeMethodNotFound      = "system.methodNotFound"
	CodeAccessDenied        = "system.accessDenied"
	CodeTimeout             = "system.timeout"
	CodeNoSubscription      = "system.noSubscription"
	CodeInvalidRequest      = "system.invalidRequest"
	CodeUnsupportedProtocol = "system.unsupportedProtocol"
	CodeSubjectTooLong      = "system.subjectTooLong"
	CodeDeleted             = "system.deleted"
	CodeSubscriptionLimit   = "system.subscriptionLimitExceeded"
	CodeBadRequest          = "system.badRequest"         // HTTP only
	CodeMethodNotAllowed    = "system.methodNotAllowed"   // HTTP only
	CodeServiceUnavailable  = "system.serviceUnavailable" // HTTP only
	CodeForbidden           = "system.forbidden"          // HTTP only
	CodeNotImplemented      = "system.notImplemented"     // HTTP only
	CodeTooActive           = "system.tooActive"          // HTTP only; not in RES: a limit of the gateway
)

// The standard errors with their texts (RES.md section 5). They are shared and immutable.
var (
	ErrNotFound            = &Error{Code: CodeNotFound, Message: "Not found"}
	ErrInvalidParams       = &Error{Code: CodeInvalidParams, Message: "Invalid parameters"}
	ErrInvalidQuery        = &Error{Code: CodeInvalidQuery, Message: "Invalid query"}
	ErrInternal            = &Error{Code: CodeInternalError, Message: "Internal error"}
	ErrMethodNotFound      = &Error{Code: CodeMethodNotFound, Message: "Method not found"}
	ErrAccessDenied        = &Error{Code: CodeAccessDenied, Message: "Access denied"}
	ErrTimeout             = &Error{Code: CodeTimeout, Message: "Request timeout"}
	ErrNoSubscription      = &Error{Code: CodeNoSubscription, Message: "No subscription"}
	ErrInvalidRequest      = &Error{Code: CodeInvalidRequest, Message: "Invalid request"}
	ErrUnsupportedProtocol = &Error{Code: CodeUnsupportedProtocol, Message: "Unsupported protocol"}
	ErrSubjectTooLong      = &Error{Code: CodeSubjectTooLong, Message: "Subject too long"}
	ErrDeleted             = &Error{Code: CodeDeleted, Message: "Deleted"}
	ErrSubscriptionLimit   = &Error{Code: CodeSubscriptionLimit, Message: "Subscription limit exceeded"}
	ErrBadRequest          = &Error{Code: CodeBadRequest, Message: "Bad request"}
	ErrMethodNotAllowed    = &Error{Code: CodeMethodNotAllowed, Message: "Method not allowed"}
	ErrServiceUnavailable  = &Error{Code: CodeServiceUnavailable, Message: "Service unavailable"}
	ErrForbidden           = &Error{Code: CodeForbidden, Message: "Forbidden"}
	ErrForbiddenOrigin     = &Error{Code: CodeForbidden, Message: "Forbidden origin"}
	ErrNotImplemented      = &Error{Code: CodeNotImplemented, Message: "Not implemented"}
)

// The errors of params that the gateway reads itself. Code and message are those of
// ErrInvalidParams, since clients may depend on them. The data say what is wrong.
var (
	errProtocol = invalidParams("protocol must be a string of three numbers below 1000, such as 1.2.3")
	errCount    = invalidParams("count must be a whole number above 0")
	errTooLong  = invalidParams("params are longer than " + strconv.Itoa(maxOptions) + " bytes")
	errNoObject = invalidParams("params must be an object")
)

// invalidParams returns an ErrInvalidParams with a reason in its data.
func invalidParams(reason string) *Error {
	data := append(AppendString([]byte(`{"reason":`), reason), '}')
	return &Error{Code: ErrInvalidParams.Code, Message: ErrInvalidParams.Message, Data: string(data)}
}

// The errors of a gateway that cannot accept a request at present. RES has only
// system.internalError for it, with the reason in the message; HTTP has status 503 (RES.md sections
// 4 and 5): see Error.HTTP. They are compared by identity, so they must not be copied.
var (
	ErrOverloaded = InternalError("too many requests are waiting for services, try again later")
	ErrStopping   = InternalError("the gateway is stopping")
)

// ErrCut is an ErrTimeout of a request that was in flight when its connection to NATS was lost. The
// sender of an idempotent request may send it again. It is compared by identity, so it must not be
// copied.
var ErrCut = &Error{Code: CodeTimeout, Message: ErrTimeout.Message}

// Error is a RES error, as a client receives it. It is immutable and safe to share.
type Error struct {
	Code    string
	Message string
	// Data is raw compact JSON, empty if there is none.
	Data string

	invalid bool // replaces an invalid reply
}

// Invalid reports whether e replaces an invalid reply of a service (RES.md 3.1), which the caller
// logs.
func (e *Error) Invalid() bool { return e.invalid }

// invalidAnswer returns the error that replaces an invalid reply.
func invalidAnswer(why string) *Error {
	e := *InternalError(why)
	e.invalid = true
	return &e
}

// InternalError returns a system.internalError with the reason in its message (RES.md section 5).
func InternalError(why string) *Error {
	if why == "" {
		return ErrInternal
	}
	return &Error{Code: CodeInternalError, Message: "Internal error: " + why}
}

// TooLarge returns the error of a resource that exceeds a limit. Like an invalid reply it is the
// service's mistake, which the caller logs.
func TooLarge(bytes int, setting string, limit int) *Error {
	return invalidAnswer("the resource has " + strconv.Itoa(bytes) + " bytes, " + setting + " allows " + strconv.Itoa(limit))
}

// TooActive returns a system.tooActive with the limit that the client has reached in its message.
func TooActive(why string) *Error { return &Error{Code: CodeTooActive, Message: "Too active: " + why} }

// HTTP returns the error for an HTTP client: ErrServiceUnavailable for ErrOverloaded and
// ErrStopping, e otherwise.
func (e *Error) HTTP() *Error {
	if e == ErrOverloaded || e == ErrStopping {
		return ErrServiceUnavailable
	}
	return e
}

// Error implements error, for logs.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Is makes errors.Is compare protocol errors by their code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t != nil && t.Code == e.Code
}

// AppendJSON appends the error object: code, message and, unless empty, data.
func (e *Error) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"code":`...)
	dst = AppendString(dst, e.Code)
	dst = append(dst, `,"message":`...)
	dst = AppendString(dst, e.Message)
	if e.Data != "" {
		dst = append(dst, `,"data":`...)
		dst = append(dst, e.Data...)
	}
	return append(dst, '}')
}
