package session

import "sluice/internal/keyed"

// table has a session's subscriptions by the resource ID as the client writes it.
type table struct{ keyed.Table[*Sub] }

// named is what a table finds a subscription by.
type named struct{ rid string } // as the client writes it

// Key implements keyed.Item.
func (n *named) Key() string { return n.rid }

// each calls f for every subscription, in an order that follows from how they came and went. f must
// not change the table.
func (t *table) each(f func(*Sub)) {
	for _, b := range t.List() {
		f(b)
	}
}

// all returns a copy of the list of subscriptions.
func (t *table) all() []*Sub { return append([]*Sub(nil), t.List()...) }
