# Installs, upgrades, removes and purges the package. Arguments: the deb, and one of a later version with another
# default file. Every line that fails ends the script; the test shows the output.
set -ex
deb=$1 later=$2
# A "!" does not end a script with -e.
fails() { if "$@"; then echo "this succeeds: $*"; exit 1; fi; }
export DEBIAN_FRONTEND=noninteractive
conf=/etc/sluice/sluice.yaml

rm -f /var/lib/man-db/auto-update # no index of all pages each time
dpkg --purge sluice 2>/dev/null || true
! getent passwd sluice || userdel sluice
dpkg -i "$deb"
test "$(dpkg-query -W -f '${Status}' sluice)" = "install ok installed"

: user and rights
test "$(getent passwd sluice | cut -d: -f6,7)" = /nonexistent:/usr/sbin/nologin
test "$(stat -c '%U:%G %a' /etc/sluice)" = "root:sluice 750"
test "$(stat -c '%U:%G %a' $conf)" = "root:sluice 640"
test "$(stat -c '%U:%G %a' /usr/bin/sluice)" = "root:root 755"

: the program reads its file as its user, and no other does
setpriv --reuid=sluice --regid=sluice --clear-groups /usr/bin/sluice check --config $conf >/tmp/effective 2>/tmp/messages
grep -q 'port: 8080 .*# /etc/sluice/sluice.yaml:' /tmp/effective
fails test -s /tmp/messages
fails setpriv --reuid=nobody --regid=nogroup --clear-groups cat $conf

: all settings that the file suggests are right, but for certificates that are not there
sed 's/^#\([a-zA-Z]*:\)/\1/' $conf | grep -v '^tls' >/tmp/all.yaml
/usr/bin/sluice check --config /tmp/all.yaml >/dev/null 2>/tmp/messages
fails test -s /tmp/messages

: units, pages, completions
systemd-analyze verify --man=no /lib/systemd/system/sluice.service /lib/systemd/system/sluice.socket 2>/tmp/messages
fails grep sluice /tmp/messages
systemd-analyze security --offline=true --threshold=20 --no-pager /lib/systemd/system/sluice.service | tail -1
man -w sluice
man -w 5 sluice.yaml
man --warnings -l /usr/share/man/man1/sluice.1.gz 2>&1 >/dev/null | tee /tmp/messages
man --warnings -l /usr/share/man/man5/sluice.yaml.5.gz 2>&1 >/dev/null | tee -a /tmp/messages
fails test -s /tmp/messages
test -s /usr/share/bash-completion/completions/sluice

: an upgrade keeps what an administrator has changed
echo 'port: 9000' >$conf
chgrp adm $conf
dpkg --force-confdef -i "$later"
test "$(cat $conf)" = 'port: 9000'
test "$(stat -c %G $conf)" = adm
test -e $conf.dpkg-dist || test -e $conf.dpkg-new || grep -q . $conf

: removing keeps it, too, and purging does not
dpkg --remove sluice
test "$(cat $conf)" = 'port: 9000'
fails test -e /usr/bin/sluice
fails test -e /lib/systemd/system/sluice.service
dpkg --purge sluice
fails test -e /etc/sluice
getent passwd sluice

: without a change, an upgrade brings the new file
dpkg -i "$deb"
dpkg -i "$later"
grep -q 'a later default' $conf
