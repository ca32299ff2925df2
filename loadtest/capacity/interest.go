package capacity

import (
	_ "embed"
	"encoding/json"
)

// Interest is what a subscription costs NATS servers. Package interest measures it.
type Interest struct {
	Own    float64 `json:"own"`    // bytes at the server that the gateway is connected to
	Remote float64 `json:"remote"` // bytes at each other server of the cluster, for all gateways of a server together

	OwnChurn    float64 `json:"ownChurn"`    // CPU of the first, for a SUB and an UNSUB, in microseconds
	RemoteChurn float64 `json:"remoteChurn"` // the same of each other
}

//go:embed interest.json
var measuredInterest []byte

// MeasuredInterest returns the costs that this program was built with.
func MeasuredInterest() (Interest, error) {
	var i Interest
	err := json.Unmarshal(measuredInterest, &i)
	return i, err
}

// Memory returns the bytes that each NATS server has for the subscriptions of w, with gateways
// spread evenly over the servers.
func (i Interest) Memory(w Work, gateways, servers float64) float64 {
	if gateways <= 0 || servers <= 0 {
		return 0
	}
	topics := topicsOf(w.Topics, w.Clients*w.PerClient/gateways)
	others := min(gateways, servers) * (servers - 1) / servers // that have gateways
	return topics * (gateways/servers*i.Own + others*i.Remote)
}
