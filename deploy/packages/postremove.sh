#!/bin/sh
# After the files are gone. The user stays: files may belong to it. Settings go only when dpkg purges.
set -e
if [ "$1" = purge ]; then
	rm -rf /etc/sluice
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
