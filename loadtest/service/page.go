//go:build linux

package service

import (
	"fmt"
	"strconv"
	"strings"
)

// A page is a model p<i> that leads to 50 others in three levels, whose models are a<i>-<k>,
// b<i>-<k> and c<i>-<k>. pageChildren has how many models of the next level each refers to.
var (
	pageChildren = []int{5, 3, 2, 0}
	pageKinds    = "pabc"
)

// PageReferences is the number of models that a page leads to.
const PageReferences = 5 + 5*3 + 5*3*2

// pageReply returns the reply to a get request of a page, or of one of its models.
func pageReply(name string) []byte {
	level := strings.IndexByte(pageKinds, name[0])
	page, rest, nested := strings.Cut(name[1:], "-")
	index, err := strconv.Atoi(rest)
	if !nested {
		index, err = 0, nil
	}
	if _, bad := strconv.Atoi(page); bad != nil || err != nil || nested != (level > 0) {
		return notFound
	}
	b := fmt.Appendf(nil, `{"result":{"model":{"name":"%s","title":"A part of page %s"`, name, page)
	for k := range pageChildren[level] {
		b = fmt.Appendf(b, `,"part%d":{"rid":"load.%c%s-%d"}`, k, pageKinds[level+1], page, index*pageChildren[level]+k)
	}
	return append(b, `}}}`...)
}
