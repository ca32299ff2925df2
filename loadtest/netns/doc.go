// Package netns runs a program in namespaces of its own, whose loopback has the receiver pay for
// what it receives.
//
// On the loopback of a machine the kernel processes a packet's arrival on the core that sends it.
// So a server pays for its clients' half of TCP, which no server with remote clients does. In a
// network namespace of the run's own, receive packet steering (rps_cpus) moves that half to the
// cores of the clients; the loopback of the machine is left alone.
//
// Run starts the program, and Enter, called in it, prepares the namespaces. The program is process
// 1 of a namespace of processes. So when it ends, or the one that called Run is killed, the kernel
// ends all that it has started, and the network namespace with them. Steering needs privileges, and
// a kernel that has it; where either is missing Run returns a Refused with the reason.
//
// Run lengthens the machine's queue of arriving packets (net.core.netdev_max_backlog) while the
// program runs; a process that runs Guard restores it, also after a kill. The package never changes
// anything else of the machine.
package netns
