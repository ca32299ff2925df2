package upstream

import (
	"errors"

	"sluice/internal/natsbus"
	"sluice/internal/res"
)

// Error returns the error for clients when a request got no reply (RES.md sections 3.1 and 5); nil
// for nil.
func Error(err error) *res.Error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, natsbus.ErrCut):
		return res.ErrCut
	case errors.Is(err, natsbus.ErrTimeout), errors.Is(err, natsbus.ErrDisconnected):
		return res.ErrTimeout
	case errors.Is(err, natsbus.ErrNoResponders):
		return res.ErrNotFound
	case errors.Is(err, natsbus.ErrSubjectTooLong):
		return res.ErrSubjectTooLong
	case errors.Is(err, natsbus.ErrBadSubject):
		return res.ErrInvalidRequest
	case errors.Is(err, natsbus.ErrOverloaded):
		return res.ErrOverloaded
	case errors.Is(err, natsbus.ErrClosed):
		return res.ErrStopping
	case errors.Is(err, natsbus.ErrRefused):
		return &res.Error{Code: res.CodeInternalError, Message: err.Error()}
	}
	return res.InternalError(err.Error())
}
