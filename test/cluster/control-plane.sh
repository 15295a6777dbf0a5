#!/usr/bin/env bash
# A Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler, without nodes and without root.
#   control-plane.sh up                starts it; returns when namespaces are usable
#   control-plane.sh down              stops it and removes STATE_DIR (KEEP_LOGS=1: all of it but the logs)
#   control-plane.sh status            its processes and their memory
#   control-plane.sh stop-api-server   as if the API server had crashed; start-api-server: bring it back with the same data
#   control-plane.sh kwok NODES GPUS   fake nodes whose pods run as soon as they are bound
#
# STATE_DIR holds certificates, logs and data. ADDRESS (127.0.0.1) is where it listens; cluster.sh, which runs this inside its
# network namespace, sets another one, and NODE_NAMES. PORT_BASE: first of five ports, found by `up` when not given.
# OWNER_PID: `down` follows when that process is gone, so that a killed test run leaves nothing.
# CRDS: a directory of them that are there before the controllers start: the garbage collector looks for new kinds every 30 s only,
# and backs off from owners of a kind that it does not know for longer than that.
# APISERVER_ARGS, CONTROLLER_MANAGER_ARGS, SCHEDULER_ARGS: more flags, separated by spaces.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${STATE_DIR:=${TMPDIR:-/tmp}/internvl-control-plane}" "${ADDRESS:=127.0.0.1}" "${NODE_NAMES:=}"
: "${NODE_GRACE_SECONDS:=300}" "${TOLERATION_SECONDS:=300}"
PATH=$("$here/programs/build.sh" --where):$PATH
export KUBECONFIG=$STATE_DIR/admin.kubeconfig
log=$STATE_DIR/log pids=$STATE_DIR/pids
# shellcheck source-path=SCRIPTDIR source=certificates.sh
. "$here/certificates.sh"

fail() {
  echo "control-plane.sh: $*" >&2
  exit 1
}

# --- processes, each in a session of its own, known by the ids that were written down when they started
alive() { [ -s "$pids/$1" ] && kill -0 "$(cat "$pids/$1")" 2>/dev/null; }
start() { # NAME ARGUMENTS...
  ! alive "$1" || return 0
  setsid "$@" >>"$log/$1.log" 2>&1 </dev/null &
  echo $! >"$pids/$1"
}
stop() { # NAME SIGNAL
  local pid
  pid=$(cat "$pids/$1" 2>/dev/null) || return 0
  kill "-$2" "$pid" 2>/dev/null || true
  for _ in $(seq 100); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.05
  done
  kill -KILL "$pid" 2>/dev/null || true
  rm -f "$pids/$1"
}
wait_for() { # SECONDS WHAT COMMAND...: until the command succeeds
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || fail "$what is not ready, see $log"
    sleep 0.1
  done
}

# --- ports
port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
choose_ports() { # below the range from which the kernel takes ports for outgoing connections
  [ ! -s "$STATE_DIR/port-base" ] || return 0
  local base offset
  if [ -n "${PORT_BASE:-}" ]; then echo "$PORT_BASE" >"$STATE_DIR/port-base"; return; fi
  for _ in $(seq 50); do
    base=$((12000 + RANDOM % 2000 * 10))
    for offset in 0 1 2 3 4; do port_is_free $((base + offset)) || continue 2; done
    echo "$base" >"$STATE_DIR/port-base"
    return
  done
  fail 'found no five free ports'
}
read_ports() {
  local base
  base=$(cat "$STATE_DIR/port-base" 2>/dev/null) || fail "nothing is running in STATE_DIR=$STATE_DIR"
  etcd_port=$base etcd_peer_port=$((base + 1)) api_port=$((base + 2)) controller_manager_port=$((base + 3)) scheduler_port=$((base + 4))
  api=https://$ADDRESS:$api_port
}

credentials() {
  local name
  certificate_authority
  certificate apiserver /CN=kube-apiserver serverAuth "IP:127.0.0.1,IP:$ADDRESS,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  certificate admin /O=system:masters/CN=admin clientAuth
  certificate apiserver-kubelet /O=system:masters/CN=apiserver-kubelet clientAuth
  certificate front-proxy /CN=front-proxy clientAuth
  certificate controller-manager /CN=system:kube-controller-manager clientAuth
  certificate scheduler /CN=system:kube-scheduler clientAuth
  certificate proxy /CN=system:kube-proxy clientAuth
  for name in $NODE_NAMES; do certificate "$name" "/O=system:nodes/CN=system:node:$name" clientAuth; done
  for name in admin controller-manager scheduler proxy $NODE_NAMES; do kubeconfig "$name" "$name" "$api"; done
}

# --- the components
start_etcd() {
  start etcd --name=only --data-dir="$STATE_DIR/etcd" --unsafe-no-fsync --log-level=warn \
    --listen-client-urls="http://127.0.0.1:$etcd_port" --advertise-client-urls="http://127.0.0.1:$etcd_port" \
    --listen-peer-urls="http://127.0.0.1:$etcd_peer_port" --initial-advertise-peer-urls="http://127.0.0.1:$etcd_peer_port" \
    --initial-cluster="only=http://127.0.0.1:$etcd_peer_port"
}
start_api_server() {
  # shellcheck disable=SC2054 # the commas are values of flags
  local flags=(
    --etcd-servers="http://127.0.0.1:$etcd_port" --secure-port="$api_port" --advertise-address="$ADDRESS"
    --cert-dir="$STATE_DIR/tmp" --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key"
    --client-ca-file="$PKI/ca.crt" --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true
    --service-account-issuer=https://kubernetes.default.svc.cluster.local
    --service-account-key-file="$PKI/sa.pub" --service-account-signing-key-file="$PKI/sa.key" --service-cluster-ip-range=10.96.0.0/16
    --requestheader-client-ca-file="$PKI/ca.crt" --requestheader-allowed-names=front-proxy
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group
    --requestheader-extra-headers-prefix=X-Remote-Extra-
    --proxy-client-cert-file="$PKI/front-proxy.crt" --proxy-client-key-file="$PKI/front-proxy.key"
    --default-not-ready-toleration-seconds="$TOLERATION_SECONDS" --default-unreachable-toleration-seconds="$TOLERATION_SECONDS"
    --audit-policy-file="$here/audit-policy.yaml" --audit-log-path="$log/audit.log" --shutdown-delay-duration=0s
  )
  if [ -n "$NODE_NAMES" ]; then
    flags+=(
      --bind-address=0.0.0.0 --enable-aggregator-routing=true # webhooks at pod addresses: there is no kube-proxy beside the API server
      --kubelet-preferred-address-types=InternalIP            # node names are not in DNS
      --kubelet-client-certificate="$PKI/apiserver-kubelet.crt" --kubelet-client-key="$PKI/apiserver-kubelet.key"
    )
  else
    flags+=(--bind-address="$ADDRESS" --endpoint-reconciler-type=none) # a loopback address is refused as an endpoint
  fi
  # shellcheck disable=SC2086
  start kube-apiserver "${flags[@]}" ${APISERVER_ARGS:-}
  wait_for 90 kube-apiserver api_server_answers
}
api_server_answers() {
  alive kube-apiserver || fail "kube-apiserver ended: $(tail -3 "$log/kube-apiserver.log")"
  curl -fsS -m 2 --cacert "$PKI/ca.crt" --cert "$PKI/admin.crt" --key "$PKI/admin.key" "$api/readyz"
}
start_controllers() {
  # shellcheck disable=SC2086
  start kube-controller-manager --kubeconfig="$STATE_DIR/controller-manager.kubeconfig" --kube-api-qps=500 --kube-api-burst=1000 \
    --authentication-kubeconfig="$STATE_DIR/controller-manager.kubeconfig" --authorization-kubeconfig="$STATE_DIR/controller-manager.kubeconfig" \
    --bind-address=127.0.0.1 --secure-port="$controller_manager_port" --cert-dir="$STATE_DIR/tmp" --leader-elect=false \
    --use-service-account-credentials=true --service-account-private-key-file="$PKI/sa.key" --root-ca-file="$PKI/ca.crt" \
    --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key" \
    --node-monitor-period=1s --node-monitor-grace-period="${NODE_GRACE_SECONDS}s" ${CONTROLLER_MANAGER_ARGS:-}
  # shellcheck disable=SC2086
  start kube-scheduler --kubeconfig="$STATE_DIR/scheduler.kubeconfig" \
    --authentication-kubeconfig="$STATE_DIR/scheduler.kubeconfig" --authorization-kubeconfig="$STATE_DIR/scheduler.kubeconfig" \
    --bind-address=127.0.0.1 --secure-port="$scheduler_port" --cert-dir="$STATE_DIR/tmp" --leader-elect=false ${SCHEDULER_ARGS:-}
}

up() {
  local program
  for program in etcd kube-apiserver kube-controller-manager kube-scheduler kubectl openssl curl; do
    command -v "$program" >/dev/null || fail "no $program: run scripts/setup-cluster.sh --control-plane-only"
  done
  mkdir -p "$log" "$pids"
  choose_ports
  read_ports
  credentials
  start_etcd
  start_api_server
  if [ -n "${CRDS:-}" ]; then
    kubectl apply --server-side --force-conflicts -f "$CRDS" >/dev/null
    kubectl wait --for=condition=Established --timeout=60s -f "$CRDS" >/dev/null
  fi
  start_controllers
  # The controller manager makes the ServiceAccount that every pod of a namespace needs.
  wait_for 60 'kube-controller-manager' kubectl -n default get serviceaccount default
  if [ -n "${OWNER_PID:-}" ]; then setsid bash "$0" _down-after "$OWNER_PID" >/dev/null 2>&1 </dev/null & fi
}
down_after() { # PID
  while kill -0 "$1" 2>/dev/null && [ -d "$pids" ]; do sleep 1; done
  down
}
down() {
  local name
  [ -d "$pids" ] || return 0
  for name in kwok kube-scheduler kube-controller-manager kube-apiserver etcd; do stop "$name" TERM; done
  if [ -n "${KEEP_LOGS:-}" ]; then
    find "$STATE_DIR" -mindepth 1 -maxdepth 1 ! -name log -exec rm -rf {} +
  else
    rm -rf "$STATE_DIR"
  fi
}
status() {
  local name
  for name in etcd kube-apiserver kube-controller-manager kube-scheduler kwok; do
    if alive "$name"; then
      awk -v name="$name" '/^VmRSS/ { printf "%-24s %5.0f MiB\n", name, $2 / 1024 }' "/proc/$(cat "$pids/$name")/status"
    else
      printf '%-24s down\n' "$name"
    fi
  done
}
kwok_nodes() { # NODES GPUS
  local i
  for i in $(seq "$1"); do sed -e "1i ---" -e "s/@NODE@/kwok-$i/g" -e "s/@GPUS@/$2/g" "$here/kwok-node.yaml"; done | kubectl apply --server-side -f - >/dev/null
  start kwok --kubeconfig="$KUBECONFIG" --config="$here/kwok-stages.yaml" --manage-nodes-with-label-selector=type=kwok --node-lease-duration-seconds=200
}

case ${1:-} in
  up) up ;;
  down) down ;;
  status) status ;;
  credentials) mkdir -p "$log" "$pids"; choose_ports; read_ports; credentials ;;
  _down-after) down_after "$2" ;;
  stop-api-server) stop kube-apiserver KILL ;;
  start-api-server) read_ports; start_api_server ;;
  kwok) read_ports; kwok_nodes "${2:-2}" "${3:-4}" ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
