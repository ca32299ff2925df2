package fanout

import (
	"slices"

	"sluice/internal/invariants"
	"sluice/internal/state"
)

// Version is a state of a topic's resource that subscribers keep although the topic has a newer
// one: a lagging client has it, and the difference to the newest starts there.
//
// Thousands of clients may keep versions of one resource that share nearly all of their trees. To
// charge each in full would close clients that cost nothing; to charge a client by its share would
// change what all others have. So the memory is charged once to the gateway. A topic sorts its
// versions, and charges each for what it does not share with the next one, the last for what it
// does not share with the topic's state. Each loop charges for itself: versions that clients of two
// loops keep count twice, which errs on the side of closing clients that lag.
type Version struct {
	topic   *Topic
	snap    *state.Snapshot
	holders int
	size    int // of the tree: what each holder weighs when the worst are looked for
	charged int // part of Metrics.VersionBytes
}

// Size returns what the version weighs for each of its holders, in bytes.
func (v *Version) Size() int { return v.size }

// Keep records that a subscriber keeps a state of the topic's resource, until it calls Release of
// the result. The caller is a member, or was when it got the state.
func (t *Topic) Keep(snap *state.Snapshot) *Version {
	i, _ := slices.BinarySearchFunc(t.versions, snap, func(v *Version, snap *state.Snapshot) int {
		if v.snap.Before(snap) {
			return -1
		}
		return 1 // the first that is not before snap
	})
	v := (*Version)(nil)
	for j := i; j < len(t.versions) && v == nil && !snap.Before(t.versions[j].snap); j++ {
		if t.versions[j].snap == snap {
			v = t.versions[j]
		}
	}
	if v == nil {
		v = &Version{topic: t, snap: snap, size: snap.TreeBytes()}
		t.versions = slices.Insert(t.versions, i, v)
		t.charge(i - 1)
		t.charge(i)
	}
	v.holders++
	t.hub.metrics.VersionShares.Add(int64(v.size))
	return v
}

// Release ends one Keep.
func (v *Version) Release() {
	t := v.topic
	if invariants.Enabled {
		invariants.Check(v.holders > 0, "%s: a version is released without a holder", t.key.rid)
	}
	t.hub.metrics.VersionShares.Add(-int64(v.size))
	if v.holders--; v.holders > 0 {
		return
	}
	i := slices.Index(t.versions, v)
	t.versions = slices.Delete(t.versions, i, i+1)
	t.hub.metrics.VersionBytes.Add(-int64(v.charged))
	t.charge(i - 1)
	if len(t.versions) == 0 {
		t.versions = nil
	}
}

// charge updates what the i-th version is charged; it may be out of range.
func (t *Topic) charge(i int) {
	if i < 0 || i >= len(t.versions) {
		return
	}
	v, next := t.versions[i], t.snap
	if i+1 < len(t.versions) {
		next = t.versions[i+1].snap
	}
	n := v.snap.Retains(next)
	t.hub.metrics.VersionBytes.Add(int64(n - v.charged))
	v.charged = n
}

// advance sets the topic's state. The one before it may be a version that is kept.
func (t *Topic) advance(snap *state.Snapshot) {
	t.snap = snap
	if n := len(t.versions); n > 0 {
		t.charge(n - 1)
	}
}
