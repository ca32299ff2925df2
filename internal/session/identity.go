package session

import "sluice/internal/res"

// identity describes a client to services. It knows no Session.
type identity struct {
	cid  string
	rare *rare // nil: there is nothing of it
}

// rare has what most sessions do without.
type rare struct {
	token string // raw JSON; "" without a token
	grant *grant // of the token; nil: it has no ID and no end
	ended func() // called when a stream's subscription has ended; nil: no stream
}

// ensureRare returns what most sessions do without, making it if needed.
func (c *identity) ensureRare() *rare {
	if c.rare == nil {
		c.rare = new(rare)
	}
	return c.rare
}

// token returns the client's token, raw JSON; "" without one.
func (c *identity) token() string {
	if c.rare == nil {
		return ""
	}
	return c.rare.token
}

// grant returns what the client's token has beside its content; nil: nothing.
func (c *identity) grant() *grant {
	if c.rare == nil {
		return nil
	}
	return c.rare.grant
}

// streams reports whether the session is that of a stream that has begun.
func (c *identity) streams() bool { return c.rare != nil && c.rare.ended != nil }

// CID returns the connection ID, by which services know the client.
func (c *identity) CID() string { return c.cid }

// tid returns the ID of the client's token; "" without one.
func (c *identity) tid() string {
	if g := c.grant(); g != nil {
		return g.tid
	}
	return ""
}

// resolve returns the resource name and query that services know rid by.
func (c *identity) resolve(rid string) (name, query string) {
	return res.SplitRID(res.ExpandCID(rid, c.cid))
}

// callRequest returns what every call and auth request says of the client.
func (c *identity) callRequest(query string, params []byte) res.CallRequest {
	return res.CallRequest{CID: c.cid, Token: c.token(), Query: query, Params: params}
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
