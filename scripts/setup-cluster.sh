#!/bin/sh
# Brings a machine to the point where the tiers on Kubernetes run: Debian packages, and the pinned programs of test/cluster/programs,
# built once a machine. Idempotent: does only what is missing, and says what it does.
#   setup-cluster.sh [--control-plane-only]   installs and builds; without the option also what nodes need (root, cgroup v1)
#   setup-cluster.sh --check [--control-plane-only]   installs nothing; prints why this machine cannot, and fails then
set -eu
cd "$(dirname "$0")/.."

check=false nodes=true
for option in "$@"; do
  case $option in
    --check) check=true ;;
    --control-plane-only) nodes=false ;;
    *)
      printf 'setup-cluster: unknown option %s\n' "$option" >&2
      exit 2
      ;;
  esac
done
say() { printf 'setup-cluster: %s\n' "$*" >&2; }
fail() {
  if $check; then printf '%s\n' "$*"; else say "$*"; fi
  exit 1
}
has() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null; }

# --- what no package brings
[ "$(uname -s)" = Linux ] || fail 'it is not Linux'
if $nodes; then
  [ "$(id -u)" = 0 ] || fail 'nodes need root'
  grep -q '^[1-9][0-9]*:.*memory' /proc/self/cgroup || fail 'nodes need cgroup v1, and this machine has v2 only'
fi
missing_programs=$(bash test/cluster/programs/build.sh --missing | tr '\n' ' ')
if [ -n "$missing_programs" ] && [ -n "${INTERNVL_CLUSTER_BIN:-}" ]; then
  fail "INTERNVL_CLUSTER_BIN=$INTERNVL_CLUSTER_BIN lacks $missing_programs"
fi
[ -z "$missing_programs" ] || has go || fail "there is no Go to build ${missing_programs}and INTERNVL_CLUSTER_BIN names no ready ones"

# --- Debian packages
packages=
need() { has "$1" || packages="$packages $2"; }
need openssl openssl
need curl curl
if $nodes; then
  need containerd containerd
  need runc runc
  [ -x /usr/lib/cni/ptp ] || packages="$packages containernetworking-plugins"
  # /bin/busybox may be the dynamic one of another package
  [ -e /usr/share/doc/busybox-static ] || packages="$packages busybox-static"
  need nft nftables
  need ip iproute2
  need nsenter util-linux
  need python3 python3
  # images without pulls: scripts/build-images.sh --local
  need buildah buildah
  need mmdebstrap mmdebstrap
fi
if [ -n "$packages" ]; then
  install="apt-get install -y --no-install-recommends$packages"
  has apt-get || fail "please install the equivalents of these Debian packages:$packages"
  if [ "$(id -u)" = 0 ]; then
    sudo=
  elif has sudo && sudo -n true 2>/dev/null; then
    sudo='sudo -n'
  else
    fail "please run: sudo $install"
  fi
  if ! $check; then
    say "installing$packages"
    log=$(mktemp)
    # shellcheck disable=SC2086
    { $sudo apt-get update -q && $sudo env DEBIAN_FRONTEND=noninteractive $install; } >"$log" 2>&1 ||
      fail "apt failed, see $log; the line was: $install"
    rm -f "$log"
  fi
fi

# --- the programs
$check && exit 0
if [ -n "$missing_programs" ]; then
  say "building ${missing_programs}(once for this machine; on two cores all of them take about 25 minutes)"
  bash test/cluster/programs/build.sh >&2
fi
