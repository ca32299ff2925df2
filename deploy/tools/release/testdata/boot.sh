# Boots systemd on a copy of this machine that is thrown away, installs a package there, and runs a script as a service.
# The exit code is that of the script, whose output goes to FOLDER/output.
# Usage: unshare --mount --cgroup --pid --fork --net --uts --ipc sh boot.sh FOLDER DEB SCRIPT
set -e
folder=$1 deb=$2 script=$3
mkdir "$folder/host" "$folder/copy"
mount -t tmpfs -o size=1g tmpfs "$folder/copy"
cd "$folder/copy"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
cd root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for d in run dev; do mount -t tmpfs -o mode=755 tmpfs $d; done
mount -t tmpfs tmpfs tmp
for d in null zero full random urandom tty; do
	touch dev/$d
	mount --bind /dev/$d dev/$d
done
mkdir dev/shm dev/pts host
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount --bind "$folder" host
: >etc/machine-id
ip link set lo up

chroot . dpkg --purge sluice >host/output 2>&1 || true
rm -f usr/sbin/policy-rc.d
chroot . dpkg -i "/host/$deb" >>host/output 2>&1

# Of the machine's own units none is started.
cat >etc/systemd/system/script.service <<END
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh /host/$script
StandardOutput=append:/host/output
StandardError=append:/host/output
TimeoutStartSec=infinity
ExecStopPost=/bin/sh -c 'systemctl exit \$EXIT_STATUS'
END
# In place of chroot, in which there can be no namespace of users.
mkdir old
pivot_root . old
umount -l old
exec env -i container=unshare PATH="$PATH" /lib/systemd/systemd --system --unit=script.service --show-status=false --log-level=warning </dev/null
