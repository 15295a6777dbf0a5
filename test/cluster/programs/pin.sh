#!/usr/bin/env bash
# pin.sh SET VERSION: writes SET/go.mod and SET/go.sum, with which the programs of that set (programs.tsv) build at that version.
# For maintainers, on a version change; `build.sh` only reads what is committed.
set -euo pipefail
cd "$(dirname "$0")"
set_name=${1:?usage: pin.sh SET VERSION} version=${2:?usage: pin.sh SET VERSION}
mapfile -t packages < <(awk -F'\t' -v set="$set_name" '$2 == set { print $3 }' programs.tsv)
[ ${#packages[@]} -gt 0 ] || { echo "pin.sh: programs.tsv has no set $set_name" >&2; exit 1; }

case $set_name in
  k8s) module=k8s.io/kubernetes ;;
  coredns) module=github.com/coredns/coredns ;;
  helm) module=helm.sh/helm/v4 ;;
  kwok) module=sigs.k8s.io/kwok ;;
  grpcurl) module=github.com/fullstorydev/grpcurl ;;
  promtool) module=github.com/prometheus/prometheus ;;
  kubeconform) module=github.com/yannh/kubeconform ;;
  *) echo "pin.sh: which module has $set_name?" >&2; exit 1 ;;
esac

source_go_mod=$(cd / && go mod download -json "$module@$version" | jq -r .Dir)/go.mod
# The replaces of a dependency do not count for who depends on it, so they are repeated here. Kubernetes replaces its
# staging modules by folders of its repository; published, they are modules of their own, v1.X.Y as v0.X.Y.
replaces() {
  go mod edit -json "$source_go_mod" | jq -r --arg staging "v0.${version#v1.}" '
    (.Replace // [])[]
    | (.Old.Path + (if .Old.Version then " " + .Old.Version else "" end)) as $old
    | if .New.Version then "replace \($old) => \(.New.Path) \(.New.Version)"
      elif (.New.Path | startswith("./staging/")) then "replace \($old) => \(.Old.Path) \($staging)"
      else empty end'
}
mkdir -p "$set_name"
cd "$set_name"
{
  printf 'module %s\n\n' "$set_name"
  grep -m1 -E '^go ' "$source_go_mod"
  grep -E '^godebug ' "$source_go_mod" || true
  printf '\ntool (\n'
  printf '\t%s\n' "${packages[@]}"
  printf ')\n\nrequire %s %s\n\n' "$module" "$version"
  replaces
} >go.mod
rm -f go.sum
go mod tidy -e # -e: tidy looks behind build tags too, where promtool (remove_all_sd) needs modules that may be gone
