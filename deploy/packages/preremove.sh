#!/bin/sh
# Before the files go: dpkg calls it with "remove", rpm with 0. An upgrade keeps the service running until it restarts.
set -e
case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now sluice.socket sluice.service
	fi
	;;
esac
