//go:build go1.26 && !go1.27

package tlskeys

import (
	"crypto/tls"
	"fmt"
	"reflect"
	"testing"
)

// A field that crypto/tls has no more, or with another type, is noticed.
func TestOtherFields(t *testing.T) {
	var f fields
	conn := reflect.TypeFor[tls.Conn]()
	f.find(conn, "vers", reflect.TypeFor[uint16]())
	f.find(conn, "haveVers", reflect.TypeFor[int]())
	f.find(conn, "gone", reflect.TypeFor[int]())
	if fmt.Sprint(f.missing) != "[haveVers gone]" {
		t.Errorf("missing: %q", f.missing)
	}
}
