package admin_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"sluice/internal/restest"
)

// Questions get answers while clients come and go, and the service sends events. It proves little
// without the race detector.
func TestChurn(t *testing.T) {
	w := newWorld(t, nil)
	url := "ws://" + w.g.Addr().String() + "/"
	stop := make(chan struct{})
	var others sync.WaitGroup
	for i := range 4 {
		others.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				c, err := restest.Dial("c", url, nil)
				if err != nil {
					t.Error(err)
					return
				}
				for k := range 10 {
					_ = c.Send(fmt.Sprintf(`{"id":%d,"method":"subscribe.test.r%d"}`, k+1, (i+n*k)%50))
				}
				_ = w.nc.Publish(fmt.Sprintf("event.test.r%d.change", n%50), []byte(model(n)))
				if n%2 == 0 {
					_ = c.Close(1000)
				}
				c.Cut()
			}
		})
	}
	for range 15 {
		for _, path := range []string{
			"/api/overview", "/api/connections?sort=cid", "/api/connections?resource=test.r1", "/api/connections?field=a",
			"/api/resources", "/api/resource?name=test.r1&value=1",
		} {
			if status, text := w.ask("GET", path, "", nil); status != http.StatusOK && status != http.StatusNotFound {
				t.Errorf("%s: %d %s", path, status, text)
			}
		}
		var list struct{ Connections []struct{ CID string } }
		w.ask("GET", "/api/connections?sort=idle&limit=3", "", &list)
		for _, c := range list.Connections {
			if status, text := w.ask("GET", "/api/connections/"+c.CID, "", nil); status != http.StatusOK && status != http.StatusNotFound {
				t.Errorf("%d %s", status, text)
			}
			w.ask("POST", "/api/connections/"+c.CID+"/disconnect", "", nil)
		}
		w.ask("POST", "/api/flush", `{"name":"test.r1"}`, nil)
		w.ask("POST", "/api/reset", `{"resources":["test.>"],"access":["test.r2"]}`, nil)
	}
	close(stop)
	others.Wait()
}
