package res

import (
	"strings"
	"testing"
)

// Replies of any size are read without a tree of their values, which took gigabytes and seconds of
// an event loop.
func TestLargeRepliesAllocateLittle(t *testing.T) {
	numbers := "[" + strings.Repeat("1,", 1<<19) + "1]"
	var p Parser
	for name, reply := range map[string]string{
		"error":               `{"error":{"code":"a.b","message":"m","data":` + numbers + `}}`,
		"error without code":  `{"error":{"message":"m","data":` + numbers + `}}`,
		"unknown members":     `{"result":{"get":true,"call":"m","other":` + numbers + `}}`,
		"meta that is no use": `{"result":{"get":true},"meta":{"header":{"A":` + numbers + `}}}`,
	} {
		b := []byte(reply)
		if n := testing.AllocsPerRun(1, func() { _, _, _ = p.Access(b) }); n > 20 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestMetaIsBounded(t *testing.T) {
	meta := func(n int) string {
		return `{"result":{"get":true},"meta":{"header":{"A":["` + strings.Repeat("a", n) + `"]}}}`
	}
	var p Parser
	if _, m, err := p.Access([]byte(meta(60 << 10))); err != nil || len(m.Header["A"]) != 1 {
		t.Errorf("meta of 60 KiB: %v", err)
	}
	if _, m, err := p.Access([]byte(meta(65 << 10))); err == nil || !err.Invalid() || m != nil {
		t.Errorf("meta of 65 KiB: %v, %v", m, err)
	}
}
