package state

import (
	"strings"
	"sync/atomic"

	"sluice/internal/res"
)

// Models of one kind have the same keys. So the keys of recently made small models are kept, and a
// model with the same ones shares them.

const (
	sharedKinds = 256 // kinds of models, by a hash of their keys: a collision only costs sharing
	// mostShared and mostSharedText bound the keys of a model that are kept.
	mostShared     = width
	mostSharedText = 512
)

var sharedKeys [sharedKinds]atomic.Pointer[[]string]

// keysOf returns the keys of sorted properties. The result never changes. Any goroutine may call
// it.
func keysOf(props []res.Prop) []string {
	if len(props) == 0 || len(props) > mostShared {
		return ownKeys(props)
	}
	text, hash := 0, uint32(2166136261) // FNV-1a
	for i := range props {
		key := props[i].Key
		text += len(key)
		for j := range len(key) {
			hash = (hash ^ uint32(key[j])) * 16777619
		}
		hash = (hash ^ 0xff) * 16777619 // in no key
		if text > mostSharedText {
			return ownKeys(props)
		}
	}
	at := &sharedKeys[(hash^hash>>16)%sharedKinds]
	if p := at.Load(); p != nil && equalKeys(*p, props) {
		return *p
	}
	// The keys are parts of the model's whole text, which must not be kept with them.
	var b strings.Builder
	b.Grow(text)
	for i := range props {
		b.WriteString(props[i].Key)
	}
	all := b.String()
	keys := make([]string, len(props))
	for i := range props {
		n := len(props[i].Key)
		keys[i], all = all[:n], all[n:]
	}
	at.Store(&keys)
	return keys
}

func equalKeys(keys []string, props []res.Prop) bool {
	if len(keys) != len(props) {
		return false
	}
	for i := range props {
		if keys[i] != props[i].Key {
			return false
		}
	}
	return true
}

func ownKeys(props []res.Prop) []string {
	keys := make([]string, len(props))
	for i := range props {
		keys[i] = props[i].Key
	}
	return keys
}
