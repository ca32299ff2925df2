# Builds the image with buildah, and runs it with podman. Arguments: a folder for images, the Dockerfile, its context.
# Usage: unshare --mount --cgroup sh image.sh FOLDER DOCKERFILE CONTEXT
set -e
folder=$1 dockerfile=$2 context=$3

# What is mounted of cgroups may be of two versions, which crun refuses; a namespace may have the newer alone.
if ! grep -q ' /sys/fs/cgroup cgroup2 ' /proc/mounts; then
	umount -R /sys/fs/cgroup
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi

# Limits and groups of the default settings need rights that a nested machine lacks.
export CONTAINERS_CONF=$folder/containers.conf
cat >"$CONTAINERS_CONF" <<END
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
cgroups = "disabled"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
END
store="--root $folder/store --runroot $folder/run --storage-driver vfs"

buildah $store build --isolation chroot --format docker --tag sluice:test --file "$dockerfile" "$context"
test "$(podman $store image inspect --format '{{.Config.User}} {{.Config.StopSignal}} {{len .RootFS.Layers}}' sluice:test)" = "65532:65532 SIGTERM 1"

# A network of its own: nothing else has its ports. No timer for the health check, which systemd would run.
podman $store run --detach --name gateway --network none --read-only --cap-drop all --security-opt no-new-privileges --health-interval disable \
	--env SLUICE_EMBEDDED_NATS=true --env SLUICE_DRAIN_TIMEOUT=0 sluice:test
tries=0
until podman $store healthcheck run gateway; do
	tries=$((tries + 1))
	if [ $tries -gt 600 ] || [ "$(podman $store inspect --format '{{.State.Running}}' gateway)" != true ]; then
		podman $store logs gateway
		exit 1
	fi
done
podman $store exec gateway /usr/bin/sluice -v
podman $store stop --time 60 gateway
podman $store logs gateway
test "$(podman $store inspect --format '{{.State.ExitCode}}' gateway)" = 0
podman $store rm gateway
