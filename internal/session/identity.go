package session

import "sluice/internal/res"

// identity describes a client to services. It knows no Session.
type identity struct {
	cid   string
	token string // raw JSON; "" without a token
	grant *grant // of the token; nil: it has no ID and no end
	http  bool   // access requests say that the client speaks HTTP
}

// CID returns the connection ID, by which services know the client.
func (c *identity) CID() string { return c.cid }

// tid returns the ID of the client's token; "" without one.
func (c *identity) tid() string {
	if c.grant == nil {
		return ""
	}
	return c.grant.tid
}

// resolve returns the resource name and query that services know rid by.
func (c *identity) resolve(rid string) (name, query string) {
	return res.SplitRID(res.ExpandCID(rid, c.cid))
}

// callRequest returns what every call and auth request says of the client.
func (c *identity) callRequest(query string, params []byte) res.CallRequest {
	return res.CallRequest{CID: c.cid, Token: c.token, Query: query, Params: params}
}

// tokenIndex finds the sessions of one loop by token ID.
type tokenIndex map[string]map[*Session]struct{}

// move files a session under a new token ID. An empty ID stands for none.
func (x *tokenIndex) move(s *Session, from, to string) {
	if from == to {
		return
	}
	if from != "" {
		delete((*x)[from], s)
		if len((*x)[from]) == 0 {
			delete(*x, from)
		}
	}
	if to == "" {
		return
	}
	if *x == nil {
		*x = make(tokenIndex)
	}
	if (*x)[to] == nil {
		(*x)[to] = make(map[*Session]struct{})
	}
	(*x)[to][s] = struct{}{}
}
