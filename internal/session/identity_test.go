package session

import "testing"

func TestTokenIndexMove(t *testing.T) {
	var x tokenIndex
	a, b := &Session{}, &Session{}
	x.move(a, "", "one")
	x.move(b, "", "one")
	if n := len(x["one"]); n != 2 {
		t.Fatalf("%d sessions with the token ID, want 2", n)
	}
	x.move(a, "one", "two")
	x.move(b, "one", "")
	if _, ok := x["one"]; ok {
		t.Error("a token ID without sessions stays in the index")
	}
	if _, ok := x["two"][a]; !ok || len(x) != 1 {
		t.Errorf("index is %v, want the moved session only", x)
	}
	x.move(a, "two", "two")
	if _, ok := x["two"][a]; !ok {
		t.Error("a move to the same token ID removes the session")
	}
}

func TestIdentityResolve(t *testing.T) {
	c := identity{cid: "c1"}
	if name, query := c.resolve("user.{cid}.inbox?page=1"); name != "user.c1.inbox" || query != "page=1" {
		t.Errorf("resolve: %q, %q", name, query)
	}
}
