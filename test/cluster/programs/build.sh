#!/usr/bin/env bash
# build.sh           builds the programs of programs.tsv that are missing, static, one line with the seconds of each
# build.sh --where   prints the directory that holds (or will hold) them
# build.sh --missing prints the names of those that are not there yet
#
# The directory is $INTERNVL_CLUSTER_BIN when that is set (ready binaries: nothing is built then), else one in the cache whose
# name follows from what is pinned here: other versions are other directories, so clones at different commits do not meet.
set -euo pipefail
cd "$(dirname "$0")"

pinned() { cat programs.tsv ./*/go.mod ./*/go.sum; uname -m; }
where() {
  if [ -n "${INTERNVL_CLUSTER_BIN:-}" ]; then
    echo "$INTERNVL_CLUSTER_BIN"
  else
    echo "${XDG_CACHE_HOME:-$HOME/.cache}/internvl-cluster/$(pinned | sha256sum | cut -c1-12)"
  fi
}
bin=$(where)
missing() { awk -F'\t' '!/^#/ { print $1 }' programs.tsv | while read -r name; do [ -x "$bin/$name" ] || echo "$name"; done; }

case ${1:-} in
  --where) echo "$bin"; exit ;;
  --missing) missing; exit ;;
esac
[ -n "$(missing)" ] || exit 0
if [ -n "${INTERNVL_CLUSTER_BIN:-}" ]; then
  echo "build.sh: INTERNVL_CLUSTER_BIN=$bin lacks $(missing | xargs); add them, or unset the variable to have them built" >&2
  exit 1
fi
command -v go >/dev/null || { echo "build.sh: Go is needed to build $(missing | xargs): https://go.dev/dl" >&2; exit 1; }
mkdir -p "$bin"
exec 8>"$bin/.lock"
flock 8 # two clones that build at once do it once

# What `kubectl version` and the API server report; without it they call themselves v0.0.0.
kubernetes=$(awk '$1 == "k8s.io/kubernetes" { print $2 } $1 == "require" && $2 == "k8s.io/kubernetes" { print $3 }' k8s/go.mod | head -1)
IFS=. read -r major minor _ <<<"${kubernetes#v}"
version_flags=
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  version_flags+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=$major -X $package.gitMinor=$minor -X $package.gitTreeState=clean"
done

export CGO_ENABLED=0 GOFLAGS=-buildvcs=false
while IFS=$'\t' read -r -u 9 name set_name package tags; do
  [[ $name != \#* && ! -x $bin/$name ]] || continue
  link_flags='-s -w'
  [[ $package != k8s.io/kubernetes/* ]] || link_flags+=$version_flags
  [ "$tags" != - ] || tags=
  started=$(date +%s)
  (cd "$set_name" && nice go build -trimpath -tags "$tags" -ldflags "$link_flags" -o "$bin/.$name" "$package") 8>&- 9<&-
  mv "$bin/.$name" "$bin/$name" # complete or not there
  echo "build.sh: $name: $(($(date +%s) - started)) s"
done 9<programs.tsv
