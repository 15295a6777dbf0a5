#!/bin/sh
# npm run cluster -- up [--control-plane-only] | down | status | load-images FILE... | node-kill NAME | node-up NAME | exec CMD...
# The Kubernetes that the tests use, by hand. One whole cluster and one control plane at a time, unless STATE_DIR tells them apart.
# The last line of `up` is KUBECONFIG=<file>.
set -eu
cd "$(dirname "$0")/.."
action=${1:-}
[ $# = 0 ] || shift
case ${1:-} in
  --control-plane-only)
    directory=${STATE_DIR:-${TMPDIR:-/tmp}/internvl-control-plane}
    export STATE_DIR="$directory"
    case $action in
      up)
        sh scripts/setup-cluster.sh --control-plane-only
        CRDS=crds bash test/cluster/control-plane.sh up
        echo "KUBECONFIG=$directory/admin.kubeconfig"
        ;;
      *) exec bash test/cluster/control-plane.sh "$action" ;;
    esac
    ;;
  *)
    if [ "$action" = up ]; then
      sh scripts/setup.sh # the nodes' device plugin is TypeScript
      sh scripts/setup-cluster.sh
    fi
    exec bash test/cluster/cluster.sh "$action" "$@"
    ;;
esac
