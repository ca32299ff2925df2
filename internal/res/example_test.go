package res_test

import (
	"errors"
	"fmt"

	"sluice/internal/res"
)

// A loop reads each client message with its own Parser. An *Error is the response to the client;
// any other error has none.
func ExampleParser_Request() {
	var p res.Parser
	var r res.Request
	for _, msg := range []string{
		`{"id":1,"method":"call.library.book.23.set","params":{"title":"Dune"}}`,
		`{"id":2,"method":"fetch.library.book.23"}`,
		`{"method":"get.library.book.23"}`,
	} {
		err := p.Request([]byte(msg), &r)
		var fault *res.Error
		switch {
		case err == nil:
			fmt.Println(r.ID, r.Type, r.RID, r.Method, string(r.Params))
		case errors.As(err, &fault):
			fmt.Println(string(res.AppendError(nil, r.ID, fault)))
		default:
			fmt.Println("no response:", err)
		}
	}
	// Output:
	// 1 call library.book.23 set {"title":"Dune"}
	// {"error":{"code":"system.invalidRequest","message":"Invalid request"},"id":2}
	// no response: request without an id that is a number
}

// A shard reads a service's reply to a get request. Properties are sorted by key, and their raw
// JSON is sent to clients unchanged.
func ExampleParser_Get() {
	var p res.Parser
	r, fault := p.Get([]byte(`{"result":{"model":{"title":"Dune","author":{"rid":"library.author.7"}}}}`))
	if fault != nil {
		fmt.Println(fault)
		return
	}
	for _, prop := range r.Props {
		fmt.Println(prop.Key, prop.Value.Kind == res.Reference, prop.Value.Raw)
	}

	_, fault = p.Get([]byte(`{"result":{}}`))
	fmt.Println(fault)
	// Output:
	// author true {"rid":"library.author.7"}
	// title false "Dune"
	// system.internalError: Internal error: invalid service response
}
