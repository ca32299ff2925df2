//go:build !linux

package netpoll

import "errors"

type uringCalls struct{}

var kernelURing uringCalls

func (e *Engine) equipURing() error { return errors.New("only Linux has it") }
