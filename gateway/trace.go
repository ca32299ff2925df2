package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
)

// traceText returns a client's message as the log shows it. The parameters of
// auth requests are passwords and the like, so they are omitted.
func traceText(message []byte) string {
	var m struct {
		ID     json.RawMessage
		Method string
	}
	if err := json.Unmarshal(message, &m); err != nil {
		return fmt.Sprintf("(not a request, %d bytes)", len(message))
	}
	if action, _, _ := strings.Cut(m.Method, "."); action != "auth" {
		return string(message)
	}
	return fmt.Sprintf(`{"id":%s,"method":%q,"params":…}`, m.ID, m.Method)
}
