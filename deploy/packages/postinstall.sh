#!/bin/sh
# After the files are there: dpkg calls it with "configure" and the version before, rpm with 1 or 2.
set -e
case "$1" in
configure | 1 | 2) ;;
*) exit 0 ;;
esac
if ! getent group sluice >/dev/null; then
	groupadd --system sluice
fi
if ! getent passwd sluice >/dev/null; then
	useradd --system --gid sluice --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin --comment "Sluice realtime API gateway" sluice
fi
# The file may hold credentials. What an administrator has changed stays as it is.
for f in /etc/sluice /etc/sluice/sluice.yaml; do
	if [ -e "$f" ] && [ "$(stat -c %G "$f")" = root ]; then
		chgrp sluice "$f"
	fi
done
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	# A gateway that runs is replaced: with upgradeSocket its WebSockets move to the new process; else, or if that cannot take over,
	# clients are drained. It is not started if it does not run.
	if systemctl is-active --quiet sluice.service; then
		pid=$(systemctl show --value --property MainPID sluice.service)
		systemctl reload sluice.service || true
		if [ "$(systemctl show --value --property MainPID sluice.service)" = "$pid" ]; then
			systemctl try-restart sluice.service
		fi
	fi
fi
