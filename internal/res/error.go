package res

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
)

// The standard errors with their texts (RES.md section 5). They are shared: nobody changes them.
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

// The errors of a gateway that cannot take a request on at all, now. The codes for WebSocket clients have no
// other word for it than internal error, with the reason; HTTP has 503 (RES.md sections 4 and 5): see HTTP.
// They are told apart by identity, so nobody makes copies of them.
var (
	ErrOverloaded = InternalError("too many requests are waiting for services, try again later")
	ErrStopping   = InternalError("the gateway is stopping")
)

// Error is an error of the protocol: what a client is told. It is immutable and safe to share.
type Error struct {
	Code    string
	Message string
	// Data is raw compact JSON, empty if there is none.
	Data string

	invalid bool // stands for an answer that is none
}

// Invalid reports whether e is not a service's word, but stands for an answer that is none (RES.md 3.1). It is worth a line
// in the log.
func (e *Error) Invalid() bool { return e.invalid }

// invalidAnswer makes the error that stands for an answer that is none.
func invalidAnswer(why string) *Error {
	e := *InternalError(why)
	e.invalid = true
	return &e
}

// InternalError makes a system.internalError with the reason in its message (RES.md section 5).
func InternalError(why string) *Error {
	if why == "" {
		return ErrInternal
	}
	return &Error{Code: CodeInternalError, Message: "Internal error: " + why}
}

// HTTP returns the error as an HTTP client is told it: e, but ErrServiceUnavailable for those errors that
// WebSocket clients have no code for.
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

// AppendJSON appends the error object: code, message and, if there is any, data.
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
