package res

import (
	"github.com/valyala/fastjson"
)

// SystemReset reads the payload of system.reset: the patterns of resources and of access, for
// ParsePattern (RES.md 3.2). An empty payload has no patterns.
func (p *Parser) SystemReset(payload []byte) (resources, access []string, err error) {
	defer p.done()
	r, a, err := p.pair(payload, "resources", "access")
	if err != nil {
		return nil, nil, err
	}
	resources, ok1 := texts(r)
	access, ok2 := texts(a)
	if !ok1 || !ok2 {
		return nil, nil, ErrForm
	}
	return resources, access, nil
}

// TokenReset reads the payload of system.tokenReset: the token IDs, and the subject of the auth
// requests (RES.md 3.2). Without token IDs it ignores the subject and returns neither. The error is
// ErrSubject if the subject is missing or not valid in NATS.
func (p *Parser) TokenReset(payload []byte) (tids []string, subject string, err error) {
	defer p.done()
	t, s, err := p.pair(payload, "tids", "subject")
	if err != nil {
		return nil, "", err
	}
	tids, ok := texts(t)
	if !ok {
		return nil, "", ErrForm
	}
	if len(tids) == 0 {
		return nil, "", nil
	}
	b, ok := text(s)
	if !ok || !ValidSubject(view(b)) {
		return nil, "", ErrSubject
	}
	return tids, string(b), nil
}

// Token reads the payload of conn.<cid>.token (RES.md 3.2). token is raw compact JSON. It is empty
// if the member is null or absent or the whole payload is null, each of which clears the
// connection's token. tid is empty if absent.
func (p *Parser) Token(payload []byte) (token, tid string, err error) {
	defer p.done()
	if len(payload) == 0 {
		return "", "", ErrMalformed
	}
	t, id, err := p.pair(payload, "token", "tid")
	if err != nil {
		return "", "", err
	}
	p.buf = appendText(p.buf[:0], t)
	b, ok := optText(id)
	if !ok {
		return "", "", ErrForm
	}
	return string(p.buf), string(b), nil
}

// pair loads a payload that is an object, null or empty, and finds two of its members. A null or
// empty payload has neither: services send both, for instance to clear a token.
func (p *Parser) pair(payload []byte, a, b string) (va, vb *fastjson.Value, err error) {
	if len(payload) == 0 {
		return nil, nil, nil
	}
	root, err := p.load(payload)
	if err != nil {
		return nil, nil, err
	}
	if isNull(root) {
		return nil, nil, nil
	}
	o := object(root)
	if o == nil {
		return nil, nil, ErrForm
	}
	o.Visit(func(key []byte, v *fastjson.Value) {
		switch string(key) {
		case a:
			va = v
		case b:
			vb = v
		}
	})
	return va, vb, nil
}
