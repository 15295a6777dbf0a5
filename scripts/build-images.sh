#!/usr/bin/env bash
# Builds the container images.
#
#   scripts/build-images.sh [NAME...]            with the OCI builder $BUILDER (docker, podman or buildah; the first found), pulling base images
#   scripts/build-images.sh --local [NAME...]    with buildah and a Debian base made by mmdebstrap: no registry, no Dockerfile frontend (needs root)
#
# NAME: operator, runtime (CPU) or runtime-cuda; operator and runtime unless given. The images are $REGISTRY/internvl-NAME:$VERSION (localhost, package.json's).
# --local writes docker archives to build/images/NAME.tar, the same bytes for the same inputs, and does nothing where they are up to date.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
node=$root/node_modules/node/bin/node
registry=${REGISTRY:-localhost}
version=${VERSION:-$(sed -n 's/^  "version": "\(.*\)",$/\1/p' package.json)}
cache=${INTERNVL_CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/internvl-cluster}
suite=bookworm # the build machine's: the addon was linked there

say() { printf 'build-images: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

containerfile() {
  case $1 in
    operator) echo images/Containerfile.operator ;;
    runtime) echo images/Containerfile.runtime-cpu ;;
    runtime-cuda) echo images/Containerfile.runtime-cuda ;;
    *) die "unknown image '$1': operator, runtime or runtime-cuda" ;;
  esac
}

# Packages whose files an image's base has; nothing is configured in it, and it has no package manager.
base_packages() {
  local common=base-files,libc6,libstdc++6,dash,coreutils
  case $1 in
    operator) echo "$common" ;;
    runtime) echo "$common,libdnnl2,libhwy1,libgomp1" ;;
    *) die "--local builds operator and runtime: $1 needs a base of its maker's" ;;
  esac
}

build_with_pulls() {
  local builder=${BUILDER:-} name
  if [[ -z $builder ]]; then
    for candidate in docker podman buildah; do
      if command -v "$candidate" >/dev/null; then builder=$candidate; break; fi
    done
  fi
  [[ -n $builder ]] || die 'no docker, podman or buildah found; set BUILDER'
  for name in "$@"; do
    "$builder" build --build-arg "VERSION=$version" -t "$registry/internvl-$name:$version" -f "$(containerfile "$name")" .
  done
}

# Prints the file name of an image's base, making it once.
base_archive() {
  local packages archive
  packages=$(base_packages "$1")
  archive=$cache/base-$suite-$(printf '%s' "$packages" | sha256sum | cut -c1-12).tar
  if [[ ! -f $archive ]]; then
    mkdir -p "$cache"
    say "making $archive"
    # In the private namespaces there is no network: this runs before them.
    SOURCE_DATE_EPOCH=0 nice mmdebstrap --quiet --variant=extract --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
      --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/man/*' \
      --customize-hook='echo "internvl:x:65532:65532::/tmp:/sbin/nologin" >"$1/etc/passwd"; echo "internvl:x:65532:" >"$1/etc/group"' \
      --include="$packages" "$suite" "$archive.new.tar" >&2
    mv "$archive.new.tar" "$archive"
  fi
  echo "$archive"
}

# Names, modes and contents of everything that goes into an image.
digest_of() {
  local folder=$1 base=$2 file=$3
  {
    (cd "$folder" && find . -printf '%P %y %m %l\n' | LC_ALL=C sort && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
    sha256sum <"$base"
    sha256sum <"$file"
    echo "$registry $version"
  } | sha256sum | cut -d' ' -f1
}

build_local() {
  local name work base digest file out=$root/build/images
  for tool in buildah mmdebstrap unshare; do command -v "$tool" >/dev/null || die "$tool not found: apt-get install buildah mmdebstrap util-linux"; done
  [[ $(id -u) == 0 ]] || die '--local needs root (mounts in a private namespace)'
  mkdir -p "$out"
  # One at a time: two builds would write the same archives.
  exec 9>"$out/.lock"
  flock 9
  for name in "$@"; do
    file=$(containerfile "$name")
    base=$(base_archive "$name")
    work=$out/$name.work
    "$node" --disable-warning=ExperimentalWarning scripts/bundle-image.ts "$name" "$work/image"
    digest=$(digest_of "$work/image" "$base" "$file")
    if [[ -f $out/$name.tar && $(cat "$out/$name.digest" 2>/dev/null) == "$digest" ]]; then
      say "$name is up to date"
    else
      say "building $registry/internvl-$name:$version"
      rm -f "$out/$name.tar" "$out/$name.digest"
      unshare --mount --net --fork bash "$0" --in-namespace "$root/$file" "$base" "$work/image" "$out/$name.tar" "$registry/internvl-$name:$version" "$version" ||
        { rm -f "$out/$name.tar"; die "$name failed"; }
      echo "$digest" >"$out/$name.digest"
    fi
    rm -rf "$work"
  done
}

# Runs in mount and network namespaces of its own; its image store lives as long as it does.
build_in_namespace() {
  local file=$1 base=$2 image=$3 out=$4 tag=$5 release=$6 container
  mount --make-rprivate /
  mount -t tmpfs run /run
  local store
  store=$(mktemp -d "$(dirname "$out")/store.XXXXXX")
  # shellcheck disable=SC2064 # the folder's name, not the variable, which is gone by then
  trap "umount -l '$store/graph/overlay' 2>/dev/null; rm -rf '$store'" EXIT
  printf '[storage]\ndriver = "overlay"\nrunroot = "/run/containers"\ngraphroot = "%s/graph"\n' "$store" >"$store/storage.conf"
  export CONTAINERS_STORAGE_CONF=$store/storage.conf BUILDAH_ISOLATION=chroot
  container=$(buildah from --pull-never scratch)
  buildah add -q "$container" "$base" / >/dev/null
  buildah commit -q --rm --timestamp 0 "$container" localhost/base >/dev/null
  container=$(buildah from --pull-never scratch)
  buildah add -q "$container" "$image" /image >/dev/null
  buildah commit -q --rm --timestamp 0 "$container" localhost/app >/dev/null
  mkdir "$store/context"
  buildah bud -q --pull-never --layers=false --timestamp 0 --build-arg BASE=localhost/base --build-arg APP=localhost/app \
    --build-arg "VERSION=$release" -f "$file" -t "$tag" "$store/context" >/dev/null
  # Not compressed: a node imports it twice as fast.
  buildah push -q "$tag" "docker-archive:$out:$tag"
}

if [[ ${1:-} == --in-namespace ]]; then
  shift
  build_in_namespace "$@"
  exit
fi
[[ -x $node ]] || die "Node 24 is missing: run 'npm ci'"
if [[ ${1:-} == --local ]]; then
  shift
  (($#)) || set -- operator runtime
  build_local "$@"
else
  (($#)) || set -- operator runtime
  build_with_pulls "$@"
fi
