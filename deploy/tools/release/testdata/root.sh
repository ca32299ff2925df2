# Runs a script as root on a copy of this machine that is thrown away: an overlay in a mount namespace of its own.
# Usage: unshare --mount --pid --fork --net sh root.sh FOLDER SCRIPT ARGUMENT...
set -e
folder=$1
shift
mount -t tmpfs -o size=1g tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay -o lowerdir=/,upperdir="$folder/upper",workdir="$folder/work" overlay "$folder/root"
mount -t proc proc "$folder/root/proc"
mount --rbind /dev "$folder/root/dev"
mount -t tmpfs tmpfs "$folder/root/run"
exec chroot "$folder/root" sh "$@"
