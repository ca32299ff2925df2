package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"sluice/internal/config"
	"sluice/internal/takeover"
)

// reload does "sluice reload", what systemd runs to reload the service: with upgradeSocket it is
// "sluice upgrade"; without, or where no process can take over, it sends SIGHUP to the process that
// systemd names in MAINPID. It has the exit codes of "sluice upgrade". After SIGHUP the gateway's
// log says what has changed.
func (p *process) reload(args []string) int {
	setup, err := config.Reload(args, p.environ)
	switch {
	case setup.Help || setup.Version:
		return p.inform(setup)
	case err != nil:
		return p.misused(err)
	}
	why, socket := "upgradeSocket is not set", setup.Config.UpgradeSocket
	switch {
	case setup.Config.EmbeddedNATS:
		why = "the embedded NATS server cannot be handed over"
	case socket != "":
		err := p.ask(socket, false)
		switch {
		case err == nil:
			return exitOK
		case !takeover.Nobody(err):
			return p.unchanged(err)
		}
		why = "no gateway takes orders at " + socket
	}
	pid, err := mainPID(p.environ)
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGHUP)
	}
	if err != nil {
		return p.unchanged(fmt.Errorf("%s, and there is no process to send SIGHUP to: %w", why, err))
	}
	fmt.Fprintf(p.stdout, "%s: process %d reads its settings again, and its log says which need a restart\n", why, pid)
	return exitOK
}

// mainPID returns the service's process, as systemd tells the programs of ExecReload.
func mainPID(environ []string) (pid int, err error) {
	err = errors.New("MAINPID, which systemd sets, is not there")
	for _, e := range environ {
		if v, ok := strings.CutPrefix(e, "MAINPID="); ok {
			if pid, err = strconv.Atoi(v); err == nil && pid <= 1 {
				err = fmt.Errorf("MAINPID is %d", pid)
			}
		}
	}
	return pid, err
}
