//go:build linux

package soak

import (
	"bufio"
	"bytes"
	"os"
	"strings"
	"time"

	"sluice/loadtest/wire"
)

// statedKind is the kind of the spans that statedLosses returns.
const statedKind = "NATS lost, says the gateway"

// statedLosses returns the times, from a gateway's log, when it had lost NATS or messages of it. On
// a machine that is too busy for the pings this happens without a fault. Clients may be closed with
// 1012 then, and custom events be missing: the reason is stated. The report shows each.
func statedLosses(log []byte, gateway int) (all []*span) {
	var open *span
	lines := bufio.NewScanner(bytes.NewReader(log))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		rest, ok := strings.CutPrefix(line, "time=")
		if !ok {
			continue
		}
		word, _, _ := strings.Cut(rest, " ")
		at, err := time.Parse(time.RFC3339Nano, word)
		if err != nil {
			continue
		}
		switch {
		case strings.Contains(line, `msg="NATS connection lost"`), strings.Contains(line, `msg="messages between NATS servers were lost"`):
			if open == nil {
				// It notices a silent connection after two to three pings.
				open = &span{kind: statedKind, detail: "(gateway " + gatewayNames[gateway] + ")", from: at.Add(-3 * natsPing), loses: true, gateways: []int{gateway}}
				all = append(all, open)
			}
		case open == nil:
		case strings.Contains(line, "did not come back within the grace period"):
			open.codes = []int{1012, wire.NoClose}
		case strings.Contains(line, `msg="NATS messages may have been lost"`):
			open.until, open.healed = at, at.Add(natsPing)
			open = nil
		}
	}
	return all
}

// readStatedLosses adds what the gateways' logs say, as far as no fault explains it. It runs after
// the end of the journal.
func (e *env) readStatedLosses() {
	faults := e.journal.spans
	for i, g := range e.gateways {
		log, err := os.ReadFile(g.server.log.Name())
		if err != nil {
			e.result.failed++
			e.result.Failures = append(e.result.Failures, err.Error())
			continue
		}
		for _, s := range statedLosses(log, i) {
			if !duringFault(faults, s, i) {
				e.journal.spans = append(e.journal.spans, s)
				e.result.Stated++
			}
		}
	}
}

// duringFault reports whether one of the faults can have caused the loss that a gateway states.
func duringFault(faults []*span, s *span, gateway int) bool {
	for _, f := range faults {
		if f.covers(gateway, -1, s.from, s.from.Add(3*natsPing), leastSlack) && (len(s.codes) == 0 || len(f.codes) > 0) {
			return true
		}
	}
	return false
}
