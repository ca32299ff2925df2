package httpapi

import (
	"net/http"
	"strconv"

	"sluice/internal/res"
)

// Status returns the HTTP status of a protocol error (RES.md section 4).
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
	case res.CodeTooActive:
		return http.StatusTooManyRequests
	}
	return http.StatusBadRequest
}

// StatusError returns the standard error that fits an HTTP status from 400 on (RES.md sections 4
// and 5).
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

// Fail makes resp the response to a request that failed with err, with the status of its code. It
// and FailAs build every error response that has a JSON body, on the event loops and on net/http.
// The caller adds what depends on the request, such as Allow and the fields of [Handler.CORS].
func (resp *Response) Fail(err *res.Error) { resp.FailAs(Status(err), err) }

// TooActive is Fail for a client that has reached a limit and may try again after so many seconds:
// 429 with Retry-After.
func (resp *Response) TooActive(why string, after int) {
	resp.Header.Set("Retry-After", strconv.Itoa(after))
	resp.Fail(res.TooActive(why))
}

// FailAs is Fail with a status of the caller's choice.
func (resp *Response) FailAs(status int, err *res.Error) {
	resp.JSON(status, err.AppendJSON(nil))
	cacheControl(resp.Header) // 404 and others may be cached by default (RFC 9110 section 15.1)
}
