#!/usr/bin/env bash
# A Kubernetes cluster of several nodes on one Linux machine, without virtual machines, container engine or network. Needs root and cgroup v1.
#   cluster.sh up                  starts control plane, nodes, DNS and fake GPUs; the last line is KUBECONFIG=<file>, usable from outside
#   cluster.sh down                kills all of it and removes every trace (KEEP_LOGS=1: all but the logs)
#   cluster.sh status              processes and memory, nodes, pods
#   cluster.sh exec CMD...         runs CMD in the cluster's network, where pod addresses, cluster IPs and DNS names work
#   cluster.sh load-images FILE... imports image archives (docker or OCI) into every node
#   cluster.sh node-kill NAME      cuts a node's power: every process of it ends at once
#   cluster.sh node-up NAME        switches it on again
#   cluster.sh stop-api-server     as if the API server had crashed; start-api-server brings it back
#
# STATE_DIR  certificates, logs, etcd and container data; each cluster has its own, several run side by side
# NODE_FILES optional: a directory that every node has as /srv
# NODE_NAMES, GPUS, NODE_GRACE_SECONDS, TOLERATION_SECONDS: see below.  OWNER_PID: `down` follows when that process is gone
#
# `up` starts one process in mount, net, pid, uts and ipc namespaces of its own, the lab. The lab holds a bridge and the control
# plane; each node is a child of it, in further namespaces, with a cable (veth) to the bridge. So killing the lab's first process
# ends everything.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export STATE_DIR=${STATE_DIR:-${TMPDIR:-/tmp}/internvl-cluster}
export NODE_NAMES=${NODE_NAMES:-node-a node-b}
export GPUS=${GPUS:-4}                               # on each node, as nvidia.com/gpu and as devices of class gpu.internvl.test; 0: none
export NODE_GRACE_SECONDS=${NODE_GRACE_SECONDS:-8}   # a node silent for so long becomes NotReady (Kubernetes: 50)
export TOLERATION_SECONDS=${TOLERATION_SECONDS:-300} # pods stay bound to a node that is not ready for so long (Kubernetes: 300)
export NETWORK=172.30.0 POD_NETWORK=10.244           # lab .1, nodes .11 .12 ...; node i has the pods $POD_NETWORK.i.0/24
export ADDRESS=$NETWORK.1 PORT_BASE=6441             # of the control plane: the API server is on 6443
export CNI_DIRECTORY=/usr/lib/cni
export KUBECONFIG=$STATE_DIR/admin.kubeconfig
PATH=$("$here/programs/build.sh" --where):$here/../../node_modules/.bin:$PATH:/usr/sbin:/sbin
export PATH
log=$STATE_DIR/log

fail() {
  echo "cluster.sh: $*" >&2
  exit 1
}
lab_pid() { # the lab's first process, as seen from outside: the child of `unshare`
  local parent child
  parent=$(cat "$STATE_DIR/pid" 2>/dev/null) || return 1
  [ "$(cat "/proc/$parent/comm" 2>/dev/null)" = unshare ] || return 1
  child=$(cat "/proc/$parent/task/$parent/children" 2>/dev/null) || return 1
  [ -n "$child" ] && echo "${child% }"
}
lab() { # COMMAND...: in the lab, in the directory where we are
  local pid
  pid=$(lab_pid) || fail "not running in STATE_DIR=$STATE_DIR; cluster.sh up starts it"
  # shellcheck disable=SC2016 # expanded there
  nsenter -t "$pid" -m -n -p -u -i -- bash -c 'cd "$0" && exec "$@"' "$PWD" "$@"
}
node_index() { # NAME: counted from 1
  local i=0 name
  for name in $NODE_NAMES; do
    i=$((i + 1))
    [ "$name" != "$1" ] || { echo "$i"; return; }
  done
  fail "there is no node '$1', only: $NODE_NAMES"
}

# --- cgroup v1: one directory in each hierarchy for the cluster, below our own; each node gets one inside it
choose_cgroups() {
  local id controllers path mount
  while IFS=: read -r id controllers path; do
    [ "$id" != 0 ] || continue # the v2 hierarchy
    mount=/sys/fs/cgroup/${controllers#name=}
    [ -d "$mount" ] || continue
    [ ! -d "$mount${path%/}" ] || mount=$mount${path%/}
    echo "$mount/$(basename "$STATE_DIR")-$(cksum <<<"$STATE_DIR" | cut -d' ' -f1)"
  done </proc/self/cgroup
}
make_cgroup() { # a cpuset has no processors until it is told which
  mkdir -p "$1"
  if [ -e "$1/cpuset.cpus" ]; then
    cat "$1/../cpuset.cpus" >"$1/cpuset.cpus"
    cat "$1/../cpuset.mems" >"$1/cpuset.mems"
  fi
}
remove_cgroup() { # bottom up, again and again while the last processes go
  for _ in $(seq 50); do
    [ -d "$1" ] || return 0
    find "$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
    sleep 0.1
  done
  echo "cluster.sh: could not remove $1" >&2
}
each_cgroup() { # FUNCTION [SUFFIX]
  local directory
  while read -r directory; do "$1" "$directory${2:-}"; done <"$STATE_DIR/cgroups"
}
join_cgroup() { echo "$BASHPID" >"$1/cgroup.procs"; }

# --- inside the lab
start_node() { # NAME
  local name=$1 index
  index=$(node_index "$name")
  if kill -0 "$(cat "$STATE_DIR/$name.pid" 2>/dev/null || echo none)" 2>/dev/null; then
    echo "$name is up already"
    return
  fi
  ip link del "veth$index" 2>/dev/null || true
  each_cgroup make_cgroup "/$name"
  (
    each_cgroup join_cgroup "/$name"
    exec 9</proc/1/ns/net # lets the node put one end of its cable into the lab
    exec setsid unshare -m -n -p -u -i -C --fork --kill-child --mount-proc bash "$here/node.sh" "$name" "$index" >"$log/$name.log" 2>&1 </dev/null
  ) &
  echo $! >"$STATE_DIR/$name.pid"
}
lab_main() { # the lab's first process
  local name i=0
  mount --make-rprivate /
  mount -t tmpfs run /run
  printf 'nameserver 10.96.0.10\nsearch svc.cluster.local cluster.local\n' >"$STATE_DIR/resolv.conf"
  [ ! -e /etc/resolv.conf ] || mount --bind "$STATE_DIR/resolv.conf" "$(readlink -f /etc/resolv.conf)"
  [ -z "${NODE_FILES:-}" ] || mount --bind "$NODE_FILES" /srv # nodes inherit it
  hostname lab
  ip link set lo up
  ip link add br0 type bridge
  ip addr add "$NETWORK.1/24" dev br0
  ip link set br0 up
  echo 1 >/proc/sys/net/ipv4/ip_forward
  for name in $NODE_NAMES; do
    i=$((i + 1))
    ip route add "$POD_NETWORK.$i.0/24" via "$NETWORK.1$i"
  done
  ip route add 10.96.0.0/16 via "$NETWORK.11" # cluster IPs, through the first node's kube-proxy
  trap 'exit 0' TERM
  bash "$here/control-plane.sh" credentials # nodes start while the control plane does
  for name in $NODE_NAMES; do start_node "$name"; done
  env -u OWNER_PID bash "$here/control-plane.sh" up
  echo 'control plane up'
  while :; do # as process 1 it also reaps orphans
    sleep 3600 &
    wait $! || true
  done
}

# --- from outside
check_machine() {
  local program
  [ "$(id -u)" = 0 ] || fail 'needs root'
  for program in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl coredns \
    containerd runc busybox nft ip nsenter unshare openssl curl python3 node; do
    command -v "$program" >/dev/null || fail "no $program: run scripts/setup-cluster.sh"
  done
  [ -x "$CNI_DIRECTORY/ptp" ] || fail "no CNI plugins in $CNI_DIRECTORY: run scripts/setup-cluster.sh"
}
make_images() { # what every node imports when it starts
  local links=() applet
  for applet in sh sleep cat ls id env ps ip wget httpd nc nslookup; do links+=(--link "/bin/$applet=busybox"); done
  mkdir -p "$STATE_DIR/images"
  python3 "$here/image.py" "$STATE_DIR/images/coredns.tar" localhost/coredns:1 --entrypoint /coredns "$(command -v coredns)=/coredns"
  # The sandbox ("pause") image of every pod, for which any program that sleeps will do, and a shell for tests.
  python3 "$here/image.py" "$STATE_DIR/images/box.tar" localhost/box:1 --entrypoint '/bin/sleep 1000000000' \
    "$(command -v busybox)=/bin/busybox" "${links[@]}"
}
wait_for_nodes() {
  local name end=$((SECONDS + 90))
  for name in $NODE_NAMES; do
    until lab kubectl wait --for=condition=Ready "node/$name" --timeout=5s >/dev/null 2>&1; do
      [ "$SECONDS" -lt "$end" ] || fail "$name is not ready, see $log/$name*.log"
      sleep 0.2
    done
  done
}
forward_api() {
  setsid python3 "$here/api-forwarder.py" "$(lab_pid)" "$ADDRESS" 6443 "$STATE_DIR/api-port" >"$log/api-forwarder.log" 2>&1 </dev/null &
  for _ in $(seq 100); do
    [ ! -s "$STATE_DIR/api-port" ] || break
    sleep 0.05
  done
  (umask 077 && sed "s#https://$ADDRESS:6443#https://127.0.0.1:$(cat "$STATE_DIR/api-port")#" "$KUBECONFIG" >"$STATE_DIR/outside.kubeconfig")
}
up() {
  local name
  if ! lab_pid >/dev/null; then
    check_machine
    mkdir -p "$log"
    choose_cgroups >"$STATE_DIR/cgroups"
    [ -s "$STATE_DIR/cgroups" ] || fail 'this machine has no cgroup v1 hierarchies'
    make_images
    each_cgroup make_cgroup
    (
      each_cgroup join_cgroup
      exec setsid unshare -m -n -p -u -i --fork --kill-child --mount-proc bash "$here/cluster.sh" _lab >"$log/lab.log" 2>&1 </dev/null
    ) &
    echo $! >"$STATE_DIR/pid"
    if [ -n "${OWNER_PID:-}" ]; then setsid bash "$0" _down-after "$OWNER_PID" >/dev/null 2>&1 </dev/null & fi
    for i in $(seq 1200); do
      ! grep -q '^control plane up' "$log/lab.log" 2>/dev/null || break
      lab_pid >/dev/null || [ "$i" -lt 20 ] || fail "the lab ended: $(tail -3 "$log/lab.log")"
      sleep 0.1
    done
    wait_for_nodes # before CoreDNS, so that its replicas spread over them
    forward_api
    lab kubectl apply --server-side -f "$here/coredns.yaml" >/dev/null
    lab kubectl -n kube-system rollout status deployment/coredns --timeout=60s >/dev/null || fail 'CoreDNS is not available'
    [ "$GPUS" = 0 ] || lab kubectl apply --server-side -f "$here/dra-driver/device-class.yaml" >/dev/null
    for name in $NODE_NAMES; do
      [ "$GPUS" = 0 ] || lab kubectl wait "node/$name" --for=jsonpath='{.status.allocatable.nvidia\.com/gpu}'="$GPUS" --timeout=60s >/dev/null
    done
  fi
  echo "KUBECONFIG=$STATE_DIR/outside.kubeconfig"
}
down() {
  local pid
  [ -e "$STATE_DIR/cgroups" ] || return 0 # nothing of ours
  if pid=$(lab_pid); then
    kill -KILL "$pid"
    while kill -0 "$(cat "$STATE_DIR/pid")" 2>/dev/null; do sleep 0.05; done
  fi
  each_cgroup remove_cgroup
  if [ -n "${KEEP_LOGS:-}" ]; then
    find "$STATE_DIR" -mindepth 1 -maxdepth 1 ! -name log -exec rm -rf {} +
  else
    rm -rf "$STATE_DIR"
  fi
}
down_after() { # PID
  while kill -0 "$1" 2>/dev/null && [ -e "$STATE_DIR/cgroups" ]; do sleep 1; done
  down
}
status() {
  lab_pid >/dev/null || { echo down; exit 3; }
  # shellcheck disable=SC2016 # awk's
  lab ps -eo rss,comm --no-headers | awk '
    { kib[$2] += $1; count[$2]++; all += $1 }
    END { for (name in kib) printf "%6.0f MiB  %2d  %s\n", kib[name] / 1024, count[name], name; printf "%6.0f MiB  all\n", all / 1024 }' | sort -rn
  lab kubectl get nodes -o wide
  lab kubectl get pods -A -o wide
}
load_images() { # FILE...: into all nodes at once
  local name file pid pids=()
  for name in $NODE_NAMES; do
    for file in "$@"; do
      lab ctr -a "$STATE_DIR/$name/containerd.sock" -n k8s.io images import "$file" >/dev/null &
      pids+=($!)
    done
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
}
node_kill() { # NAME
  node_index "$1" >/dev/null
  # shellcheck disable=SC2016 # expanded there
  lab bash -c 'kill -KILL "$(cat "$0")" && rm "$0"' "$STATE_DIR/$1.pid"
  each_cgroup remove_cgroup "/$1"
}

case ${1:-} in
  up) up ;;
  down) down ;;
  status) status ;;
  exec) shift; lab "$@" ;;
  load-images | image) shift; load_images "$@" ;;
  node-kill) node_kill "${2:-}" ;;
  node-up) node_index "${2:-}" >/dev/null; lab bash "$here/cluster.sh" _node "$2" ;;
  stop-api-server | start-api-server) lab bash "$here/control-plane.sh" "$1" ;;
  _lab) lab_main ;;
  _node) start_node "$2" ;;
  _down-after) down_after "$2" ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
