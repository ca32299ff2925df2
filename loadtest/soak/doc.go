// Package soak runs the gateway for long with everything going wrong: two gateways (plain and TLS),
// a cluster of three NATS nodes, services in processes of their own and thousands of clients of all
// kinds, while processes are killed, frozen and upgraded, connections cut, garbage sent,
// certificates and settings changed. Afterwards every client must hold exactly what the services
// say is true.
//
// Run is the whole of it. A seed decides what clients and services do and which faults happen when;
// the timing of processes is the machine's, so a seed repeats a run's plan, not its every step.
//
// It owns the processes that it starts and the folder that it writes to. It sees the gateway only
// from outside: sockets, metrics, /proc and exit codes. It never touches the machine's clock and
// never signals processes of others.
//
// The files: schedule.go plans the faults, fault*.go cause them; cluster.go, gateway.go
// and services.go hold the processes; client*.go the clients; journal.go collects what is noticed,
// checks.go judges it, report.go shows it.
package soak
