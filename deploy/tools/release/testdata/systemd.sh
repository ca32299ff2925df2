# Runs the package's units under systemd: start, readiness, reload, a new process that takes over, crash, watchdog, wrong
# settings, socket activation, removal. Every line that fails ends the script; the test shows the output.
set -ex
conf=/etc/sluice/sluice.yaml
drop=/run/systemd/system/sluice.service.d
show() { systemctl show --value --property "$1" sluice; }
set_to() { sed -i "s|^$1: .*|$1: $2|" $conf; }
# A "!" does not end a script with -e.
fails() { if "$@"; then echo "this succeeds: $*"; exit 1; fi; }
# Waits until a property of the service matches: two minutes at most.
await() {
	set +x
	tries=0
	until show "$1" | grep -qE "$2"; do
		tries=$((tries + 1))
		test $tries -lt 1200 || { echo "$1 is $(show "$1"), not $2"; exit 1; }
		sleep 0.1
	done
	set -x
}
trap 'grep -v "^goroutine\|^	" /var/log/gateway.log | tail -n 200; systemctl status --no-pager --full sluice || true' EXIT

# The network of this copy is not there, nor a NATS server: that of another gateway takes its place.
mkdir -p $drop
cat >$drop/test.conf <<END
[Unit]
DefaultDependencies=no
Wants=
After=
[Service]
StandardOutput=append:/var/log/gateway.log
StandardError=append:/var/log/gateway.log
RestartSec=100ms
END
cat >>$conf <<END
allowOrigin: https://example.com
drainTimeout: 1s
END
systemctl daemon-reload

: the start waits for NATS, says so, and ends when clients are served
systemctl start --no-block sluice
await StatusText '^waiting for NATS'
/usr/bin/sluice --embedded-nats --port -1 2>/var/log/nats.log &
systemctl start sluice

: it runs as the user, without a capability
test "$(show ActiveState)" = active
test "$(show StatusText)" = 'clients are served'
/usr/bin/sluice health --config $conf
pid=$(show MainPID)
grep -q "^Uid:.*$(id -u sluice)" /proc/$pid/status
grep -q '^CapEff:.*0000000000000000$' /proc/$pid/status
grep -q '^NoNewPrivs:.*1$' /proc/$pid/status
grep -q '^Seccomp:.*2$' /proc/$pid/status

: a client keeps its connections, and uses them each time
mkfifo /tmp/use /tmp/used
HOLD_CONNECTIONS_TO=127.0.0.1:8080 /host/client </tmp/use >/tmp/used 2>&1 &
exec 5>/tmp/use 6</tmp/used
used() { read -r answer <&6 && test "$answer" = ok || { echo "the client: $answer"; exit 1; }; }
use() { echo >&5; used; }
used

: a reload is an upgrade: a new process has all settings, and no connection is closed
set_to allowOrigin https://www.example.com
echo 'wsPath: /' >>$conf
systemctl reload sluice
test "$(show MainPID)" != "$pid"
test "$(show ActiveState)" = active
test "$(show NRestarts)" = 0
pid=$(show MainPID)
use

: a reload with wrong settings fails, says why, and changes nothing
set_to drainTimeout soon
fails systemctl reload sluice
grep 'sluice: .*drainTimeout: "soon" is not a duration' /var/log/gateway.log
set_to drainTimeout 1s
set_to natsUrl 'nats://127.0.0.1:1'
echo 'natsTimeout: 1s' >>$conf
fails systemctl reload sluice
grep 'sluice: nothing has changed: cannot reach NATS' /var/log/gateway.log
set_to natsUrl 'nats://127.0.0.1:4222'
test "$(show MainPID)" = "$pid"
test "$(show ActiveState)" = active
use

: so does an update of the package, with the new program
dpkg --force-confdef -i /host/later.deb
test "$(show MainPID)" != "$pid"
test "$(show NRestarts)" = 0
pid=$(show MainPID)
test "/proc/$pid/exe" -ef /usr/bin/sluice
use

: the drop-in of the documentation, for a unit without all of that
sed -i '/^ExecReload=/d; /^Runtime/d' /lib/systemd/system/sluice.service
cp /host/drop-in.conf $drop/reload.conf
systemctl daemon-reload
systemctl reload sluice
test "$(show MainPID)" != "$pid"
pid=$(show MainPID)
use
set_to drainTimeout soon
fails systemctl reload sluice
set_to drainTimeout 1s
test "$(show MainPID)" = "$pid"
use
rm $drop/reload.conf
dpkg --force-confdef -i /host/sluice.deb
pid=$(show MainPID)
use

: without upgradeSocket a reload applies what can change in the process, and wrong settings change nothing
exec 5>&-
sed -i '/^upgradeSocket/d' $conf
systemctl restart sluice
pid=$(show MainPID)
set_to allowOrigin https://example.com
systemctl reload sluice
await StatusText '^reloaded; clients are served$'
set_to drainTimeout soon
fails systemctl reload sluice
set_to drainTimeout 1s
kill -HUP "$pid"
await StatusText '^reloaded; clients are served$'
test "$(show MainPID)" = "$pid"

: a new process takes over by a signal, and the service goes on
systemctl kill -s USR2 --kill-whom=main sluice
tries=0
until test "$(show MainPID)" != "$pid"; do
	tries=$((tries + 1))
	test $tries -lt 1200
	sleep 0.1
done
test "$(show ActiveState)" = active
test "$(show NRestarts)" = 0
pid=$(show MainPID)
/usr/bin/sluice health --config $conf

: a process that ends by itself is started again, also after a Go panic, which this signal is like
kill -ABRT "$pid"
await NRestarts '^1$'
await ActiveState '^active$'
kill -KILL "$(show MainPID)"
await NRestarts '^2$'
await ActiveState '^active$'
/usr/bin/sluice health --config $conf

: a process that hangs is started again by the watchdog
printf '[Service]\nWatchdogSec=3s\n' >$drop/watchdog.conf
systemctl daemon-reload
systemctl restart sluice
kill -STOP "$(show MainPID)"
await NRestarts '^[1-9]'
rm $drop/watchdog.conf
systemctl daemon-reload
systemctl restart sluice
/usr/bin/sluice health --config $conf

: a stop drains, and is a success
systemctl stop sluice
test "$(show ActiveState)" = inactive
test "$(show Result)" = success
test "$(show ExecMainStatus)" = 0

: wrong settings end it for good
set_to drainTimeout soon
fails systemctl start sluice
await ActiveState '^failed$'
test "$(show ExecMainStatus)" = 2
test "$(show NRestarts)" = 0
set_to drainTimeout 1s
systemctl reset-failed sluice

: systemd opens the port, and the port of the settings does not count
set_to port 9999
mkdir -p /run/systemd/system/sluice.socket.d
printf '[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=\nListenStream=443\n' >/run/systemd/system/sluice.socket.d/test.conf
systemctl daemon-reload
systemctl start sluice.socket
test "$(show ActiveState)" = inactive
/usr/bin/sluice health --config $conf --port 443 # its connection starts the service
test "$(show ActiveState)" = active
fails /usr/bin/sluice health --config $conf
systemctl stop sluice.socket sluice

: removing the package stops the service
systemctl start sluice
dpkg --remove sluice
fails systemctl is-active sluice
trap - EXIT
