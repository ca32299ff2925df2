package upstream

import (
	"errors"
	"fmt"
	"testing"

	"sluice/internal/natsbus"
	"sluice/internal/res"
)

// The error for clients of each error of a request, also of a wrapped one.
func TestError(t *testing.T) {
	for err, want := range map[error]*res.Error{
		natsbus.ErrTimeout:        res.ErrTimeout,
		natsbus.ErrDisconnected:   res.ErrTimeout,
		natsbus.ErrCut:            res.ErrCut,
		natsbus.ErrNoResponders:   res.ErrNotFound,
		natsbus.ErrSubjectTooLong: res.ErrSubjectTooLong,
		natsbus.ErrBadSubject:     res.ErrInvalidRequest,
		natsbus.ErrOverloaded:     res.ErrOverloaded,
		natsbus.ErrClosed:         res.ErrStopping,
	} {
		if got := Error(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
		if got := Error(fmt.Errorf("detail: %w", err)); got != want {
			t.Errorf("%v with a detail: %v, want %v", err, got, want)
		}
	}
	if got := Error(nil); got != nil {
		t.Errorf("no error: %v", got)
	}
	if got := Error(errors.New("odd")); got.Code != res.CodeInternalError || got.Message != "Internal error: odd" {
		t.Errorf("an unknown error: %v", got)
	}
}
