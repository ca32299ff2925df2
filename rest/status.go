package rest

import (
	"net/http"

	"sluice/res"
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
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err *res.Error) {
	h.writeError(w, r, Status(err), err)
}

// writeError answers with an error. Caches may keep some errors, such as 404, unless told not to.
func (h *Handler) writeError(w http.ResponseWriter, r *http.Request, status int, err *res.Error) {
	header := w.Header()
	header["Content-Type"] = typeJSON
	h.cacheControl(header)
	h.write(w, r, status, err.AppendJSON(nil))
}
