package livetrace

import "testing"

func TestText(t *testing.T) {
	for _, tt := range []struct {
		line Line
		want string
	}{
		{Line{Time: "now", Kind: In, ID: "7", CID: "c", Method: "call.add", RID: "a.b", Size: 9, Payload: `{"x":1}`}, `now in      call.add a.b id=7 cid=c size=9 {"x":1}`},
		{Line{Time: "now", Kind: Reply, Subject: "call.a.b.add", RID: "a.b", TookMs: 1.5, Size: 900, Payload: "x\x1b[31m\ny", Cut: true}, `now reply   call.a.b.add took=1.5ms size=900 x?[31m?y …`},
		{Line{Time: "now", Kind: Fanout, RID: "a.b", Event: "change", Clients: 3}, `now fanout  a.b change clients=3`},
		{Line{Time: "now", Kind: Request, Subject: "auth.a.b", Size: 3, Hidden: true}, `now request auth.a.b size=3 (hidden)`},
		{Line{Time: "now", Kind: End, Lines: 5, Omitted: 1, Lost: 2, LeftMs: 1, Reason: "closed"}, `now end     omitted=1 lost=2 left=1s closed`},
	} {
		if got := tt.line.String(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
