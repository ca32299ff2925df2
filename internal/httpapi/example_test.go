package httpapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"sluice/internal/httpapi"
	"sluice/internal/res"
	"sluice/internal/session"
)

// greeter is a backend with one method.
type greeter struct{}

func (greeter) Get(*http.Request, string) (*session.Graph, *res.Meta, *res.Error) {
	return nil, nil, res.ErrNotFound
}

func (greeter) Call(_ *http.Request, rid, method string, params []byte) (res.CallResult, *res.Meta, *res.Error) {
	if rid != "greeter.en" || method != "greet" {
		return res.CallResult{}, nil, &res.Error{Code: res.CodeMethodNotFound, Message: "Method not found"}
	}
	return res.CallResult{Payload: fmt.Appendf(nil, `{"hello":%s}`, params)}, nil, nil
}

func (greeter) Stream(*http.Request, string, httpapi.Sink) (*res.Meta, *res.Error) {
	return nil, res.ErrNotFound
}

// A handler maps paths to resource IDs and methods, calls its backend, and builds the response.
func Example() {
	h := httpapi.New(httpapi.Options{AllowOrigin: []string{"https://app.example"}}, greeter{})
	ask := func(method, target, body string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
		fmt.Println(w.Code, w.Header().Get("Vary"), w.Body)
	}
	ask("POST", "/api/greeter/en/greet", `"Ada"`)
	ask("POST", "/api/greeter/en/shout", "")
	ask("GET", "/api/greeter/en", "")
	// Output:
	// 200 Origin {"hello":"Ada"}
	// 404 Origin {"code":"system.methodNotFound","message":"Method not found"}
	// 404 Origin {"code":"system.notFound","message":"Not found"}
}
