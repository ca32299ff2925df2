package capacity

import (
	"math"
	"testing"
)

// Each server has the subscriptions of its own gateways, and one for each resource of each other
// server that has gateways.
func TestInterestMemory(t *testing.T) {
	i := Interest{Own: 900, Remote: 600}
	all := Work{Clients: 1e6, PerClient: 100, Topics: 1000} // each gateway has all topics
	for _, tt := range []struct{ gateways, servers, want float64 }{
		{3, 3, 1000 * (900 + 2*600)},
		{30, 3, 1000 * (10*900 + 2*600)},
		{1, 1, 1000 * 900},
		{0, 3, 0},
	} {
		if got := i.Memory(all, tt.gateways, tt.servers); math.Abs(got-tt.want) > 1 {
			t.Errorf("%v gateways, %v servers: %v bytes, want %v", tt.gateways, tt.servers, got, tt.want)
		}
	}
	measured, err := MeasuredInterest()
	if err != nil || measured.Own <= 0 || measured.Remote <= 0 || measured.OwnChurn <= 0 || measured.RemoteChurn <= 0 {
		t.Errorf("%+v, %v", measured, err)
	}
}
