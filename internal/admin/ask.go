package admin

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
)

// step is how many connections or topics an owner visits in one message. The next slice is posted
// when the result of the previous one is there, so other messages go in between.
const step = 256

// ask has an owner call f, and returns f's result, or ctx's error if the owner does not come to it.
// post puts a function into the owner's mailbox. f may still run after an error.
func ask[T any](ctx context.Context, post func(func()), f func() T) (v T, err error) {
	got := make(chan T, 1)
	post(func() { got <- f() })
	select {
	case v = <-got:
		return v, nil
	case <-ctx.Done():
		return v, ctx.Err()
	}
}

// inSlices asks an owner for all parts of a list. part returns the part that begins at from, and
// where the next one begins, -1 at the end; it runs on the owner. take gets each part.
func inSlices[T any](ctx context.Context, post func(func()), part func(from int) ([]T, int), take func([]T)) error {
	type result struct {
		list []T
		next int
	}
	for at := 0; at >= 0; {
		r, err := ask(ctx, post, func() result {
			list, next := part(at)
			return result{list, next}
		})
		if err != nil {
			return err
		}
		take(r.list)
		at = r.next
	}
	return nil
}

// gather asks n owners at the same time, and calls take with each row that they pass. ask runs on a
// goroutine of its own for each owner; the error is one of theirs.
func gather[T any](n int, ask func(i int, pass func([]T)) error, take func(T)) (err error) {
	type part struct {
		rows []T
		over bool
		err  error
	}
	parts := make(chan part)
	for i := range n {
		go func() {
			err := ask(i, func(rows []T) { parts <- part{rows: rows} })
			parts <- part{over: true, err: err}
		}()
	}
	for left := n; left > 0; {
		p := <-parts
		for _, row := range p.rows {
			take(row)
		}
		if p.over {
			left--
			err = cmp.Or(err, p.err)
		}
	}
	return err
}

// late is the error for owners that do not answer.
func late(what string, index int) error {
	return refuse(http.StatusServiceUnavailable, "%s %d does not answer within %v: it is overloaded or hangs; the overview shows which do", what, index, answerWithin)
}

// number returns a whole number from the query of a request.
func number(r *http.Request, name string, standard, low, high int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return standard, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, refuse(http.StatusBadRequest, "%s must be a whole number from %d to %d", name, low, high)
	}
	return n, nil
}

const (
	defaultLimit = 50
	maxLimit     = 1000
)

func limitOf(r *http.Request) (int, error) { return number(r, "limit", defaultLimit, 1, maxLimit) }
