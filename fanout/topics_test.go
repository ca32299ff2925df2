package fanout

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestTopics compares topics with a map by key, while topics with the same resource IDs come and
// go.
func TestTopics(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var m topics
	want := make(map[topicKey]*Topic)
	for i := range 5000 {
		key := topicKey{fmt.Sprint("r", rnd.IntN(5)), fmt.Sprint("n", rnd.IntN(4)), fmt.Sprint("q", rnd.IntN(2))}
		switch topic := want[key]; {
		case topic == nil:
			topic = &Topic{key: key}
			want[key] = topic
			m.add(topic)
		case rnd.IntN(2) == 0:
			delete(want, key)
			m.remove(topic)
		}
		if m.find(key) != want[key] {
			t.Fatalf("step %d: %v is %p, want %p", i, key, m.find(key), want[key])
		}
		all := 0
		for topic := range m.all() {
			if all++; want[topic.key] != topic {
				t.Fatalf("step %d: %v is listed, want %p", i, topic.key, want[topic.key])
			}
		}
		if all != len(want) || m.len != len(want) {
			t.Fatalf("step %d: %d topics listed and %d counted, want %d", i, all, m.len, len(want))
		}
	}
	for _, topic := range want {
		m.remove(topic)
	}
	if m.len != 0 || m.byRID.Len() != 0 {
		t.Errorf("%d topics are left, %d in the table", m.len, m.byRID.Len())
	}
}
