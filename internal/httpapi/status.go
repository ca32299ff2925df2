package httpapi

import (
	"net/http"

	"sluice/internal/res"
)

// Status is the HTTP status of a protocol error (RES.md section 4).
func Status(err *res.Error) int {
	switch err.Code {
	case res.CodeNotFound, res.CodeMethodNotFound, res.CodeTimeout:
		return http.StatusNotFound
	case res.CodeAccessDenied:
		return http.StatusUnauthorized
	case res.CodeForbidden:
		return http.StatusForbidden
	case res.CodeMethodNotAllowed:
		return http.StatusMethodNotAllowed
	case res.CodeSubjectTooLong:
		return http.StatusRequestURITooLong
	case res.CodeInternalError:
		return http.StatusInternalServerError
	case res.CodeServiceUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// StatusError is the standard error that fits an HTTP status from 400 on (RES.md sections 4 and 5).
func StatusError(status int) *res.Error {
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusProxyAuthRequired:
		return res.ErrAccessDenied
	case http.StatusForbidden, http.StatusUnavailableForLegalReasons:
		return res.ErrForbidden
	case http.StatusNotFound, http.StatusGone:
		return res.ErrNotFound
	case http.StatusMethodNotAllowed:
		return res.ErrMethodNotAllowed
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return res.ErrTimeout
	case http.StatusNotImplemented:
		return res.ErrNotImplemented
	case http.StatusServiceUnavailable:
		return res.ErrServiceUnavailable
	}
	if status < 500 {
		return res.ErrBadRequest
	}
	return res.ErrInternal
}

// Fail makes the answer that of a request that failed with err, in the status of its code. Every
// error response of the gateway is made by it or by FailAs, on the event loops and by net/http.
// What depends on the request, such as Allow and the fields of [Handler.CORS], the caller adds.
func (a *Answer) Fail(err *res.Error) { a.FailAs(Status(err), err) }

// FailAs is Fail with a status of the caller's choice.
func (a *Answer) FailAs(status int, err *res.Error) {
	a.JSON(status, err.AppendJSON(nil))
	cacheControl(a.Header) // 404 and others may be cached by default (RFC 9110 section 15.1)
}
