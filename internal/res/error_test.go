package res

import (
	"strings"
	"testing"
)

// WebSocket clients see an internal error with the reason, HTTP clients 503
// (RES.md sections 4 and 5).
func TestErrorsThatOnlyHTTPCanName(t *testing.T) {
	for _, e := range []*Error{ErrOverloaded, ErrStopping} {
		if e.Code != CodeInternalError || !strings.HasPrefix(e.Message, "Internal error: ") {
			t.Errorf("%v", e)
		}
		if got := e.HTTP(); got != ErrServiceUnavailable {
			t.Errorf("%v over HTTP: %v", e, got)
		}
	}
	for _, e := range []*Error{ErrInternal, InternalError("the gateway is stopping"), ErrNotFound, ErrTimeout, {Code: "custom", Message: "m"}} {
		if got := e.HTTP(); got != e {
			t.Errorf("%v over HTTP: %v", e, got)
		}
	}
	if got := (*Error)(nil).HTTP(); got != nil {
		t.Errorf("no error over HTTP: %v", got)
	}
}
