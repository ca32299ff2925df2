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

// fail answers with an error, in the status of its code.
func (h *Handler) fail(a *Answer, err *res.Error) { h.errorAnswer(a, Status(err), err) }

// errorAnswer answers with an error. Caches may keep some errors, such as 404, unless told not to.
func (h *Handler) errorAnswer(a *Answer, status int, err *res.Error) {
	a.Header["Content-Type"] = typeJSON
	h.cacheControl(a.Header)
	a.Status, a.Body, a.Shared, a.sized = status, err.AppendJSON(nil), true, true
}
