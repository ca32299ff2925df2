package session

import (
	"slices"
	"testing"
)

func TestAgendaOrder(t *testing.T) {
	var a agenda
	var spare *items
	var ran []string
	add := func(name string, alone bool) {
		a.ensureItems(&spare).enqueue("r", queuedRequest{alone: alone, run: func() { ran = append(ran, name) }})
	}
	a.answered("r")
	if a.due() {
		t.Error("something is due while no request is queued")
	}
	add("get", false)
	add("unsubscribe", true)
	if a.due() || !a.queued("r") || a.queued("other") {
		t.Errorf("due %v, queued %v; want a queued request that is not due", a.due(), a.queued("r"))
	}
	a.answered("r")
	if !a.due() || a.nextDue() != "r" {
		t.Fatal("the request is not due after the ones before it are answered")
	}
	a.order.dequeue("r", true)()
	if a.order.dequeue("r", true) != nil {
		t.Error("a request that must run alone runs during a fetch")
	}
	a.order.dequeue("r", false)()
	if a.order.dequeue("r", false) != nil || a.queued("r") {
		t.Error("the queue is not empty after its last request")
	}
	kept := a.items
	if a.clearItems(true, &spare); a.items != kept || spare != nil {
		t.Error("an agenda with queued requests is cleared")
	}
	if a.clearItems(false, &spare); a.items != nil || spare != kept || a.due() || a.queued("r") {
		t.Error("the items are not kept for the next agenda")
	}
	if a.ensureItems(&spare) != kept || spare != nil || a.due() {
		t.Error("the kept items are not reused")
	}
	if want := []string{"get", "unsubscribe"}; !slices.Equal(ran, want) {
		t.Errorf("ran %v, want %v", ran, want)
	}
}
