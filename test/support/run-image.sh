#!/bin/bash
# run-image.sh ARCHIVE MODEL COMMAND...: runs a command in an image's file system as a restricted pod has it: its user, a read-only root, an empty /tmp,
# no network but loopback, MODEL at /model. Needs root. ARCHIVE: a docker archive.
set -euo pipefail
if [[ ${1:-} != --inside ]]; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  # Processes, mounts and network end with the command.
  unshare --mount --net --pid --ipc --fork --kill-child bash "$0" --inside "$folder" "$@"
  exit
fi
folder=$2 archive=$3 model=$4
shift 4
mount --make-rprivate /
mkdir "$folder/archive" "$folder/root"
tar -xf "$archive" -C "$folder/archive"
read_manifest() { python3 -c 'import json, sys; print("\n".join(json.load(open(sys.argv[1]))[0]["Layers"]))' "$folder/archive/manifest.json"; }
for layer in $(read_manifest); do tar -xf "$folder/archive/$layer" -C "$folder/root"; done
rm -rf "$folder/archive"
cd "$folder/root"
mount --bind . .
cd "$folder/root"
mkdir -p proc dev tmp model
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 tmp tmp
mount --bind "$model" model
mount -o remount,ro,bind .
ip link set lo up
exec env -i PATH=/usr/local/bin:/usr/bin:/bin /usr/sbin/chroot --userspec=65532:65532 . "$@"
