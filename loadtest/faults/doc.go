// Package faults causes one fault after another under a small number of clients, against any
// gateway that it has a dialect for, and says what became of the clients: one word for each fault
// and gateway.
//
// Rows lists the faults. Run starts, for each fault and target, a NATS server, the gateway, a
// service and clients, causes the fault, and judges. It measures no speed: what it reports does not
// depend on the machine, except for figures that a row names.
//
// It owns the processes that it starts, and sees a gateway only from outside: sockets, /proc and
// exit codes. It kills a gateway that uses more memory than Options.Memory, as a control group
// does.
package faults
