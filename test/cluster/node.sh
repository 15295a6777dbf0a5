#!/usr/bin/env bash
# node.sh NAME INDEX: first process of a node, in mount, net, pid, uts, ipc and cgroup namespaces of its own. Starts
# containerd, kubelet, kube-proxy and the fake GPU plugin. When it dies, all of the node dies, as if power were cut.
# Called by cluster.sh, which gives it its variables and, as file descriptor 9, the lab's network namespace.
set -euo pipefail
name=$1 index=$2 here=$(cd "$(dirname "$0")" && pwd)
state=$STATE_DIR/$name log=$STATE_DIR/log address=$NETWORK.1$index
mkdir -p "$state"/{kubelet,containerd,cni,settings}
hostname "$name"

# network: a cable to the lab's bridge, routes to the pods of the other nodes
ip link set lo up
ip link add eth0 type veth peer name "veth$index" netns /proc/self/fd/9
ip addr add "$address/24" dev eth0
ip link set eth0 up
nsenter --net=/proc/self/fd/9 ip link set "veth$index" master br0 up
exec 9<&-
ip route add default via "$NETWORK.1"
i=0
for _ in $NODE_NAMES; do
  i=$((i + 1))
  [ $i = "$index" ] || ip route add "$POD_NETWORK.$i.0/24" via "$NETWORK.1$i"
done
echo 1 >/proc/sys/net/ipv4/ip_forward

# mounts: nothing leaks out; kubelet and containerd keep what they write in fixed places of the system to this node
mount --make-rprivate /
mount --make-rshared /
mount -t tmpfs run /run
mount -t tmpfs log /var/log
mount -t tmpfs lib /var/lib
mkdir -p /run/netns /run/containerd /var/lib/kubelet
mount --bind "$state/kubelet" /var/lib/kubelet # also where device plugins look for the kubelet's socket
# cgroup v1, rooted at the node's own directories. The named systemd hierarchy must be among them: runc looks for it.
awk -F: '$1!=0{print $2}' /proc/self/cgroup >"$state/hierarchies"
mount -t tmpfs cgroup /sys/fs/cgroup
while read -r hierarchy; do
  directory=/sys/fs/cgroup/${hierarchy#name=}
  options=$hierarchy
  [[ $hierarchy != name=* ]] || options=none,$hierarchy
  mkdir -p "$directory"
  mount -t cgroup -o "$options" cgroup "$directory" || rmdir "$directory"
done <"$state/hierarchies"
# the kubelet insists on some kernel settings: show it the wanted values, leave the machine's alone
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  file=$state/settings/${setting//\//_}
  echo "${setting#*=}" >"$file"
  [ ! -e "/proc/sys/${setting%=*}" ] || mount --bind "$file" "/proc/sys/${setting%=*}"
done

# containerd; pods get a point-to-point link each (no bridge: all traffic is routed, so kube-proxy sees all of it)
cat >"$state/cni/10-pods.conflist" <<Y
{"cniVersion":"0.4.0","name":"pods","plugins":[{"type":"ptp","mtu":1500,"ipam":{"type":"host-local","ranges":[[{"subnet":"$POD_NETWORK.$index.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}
Y
cat >"$state/containerd.toml" <<Y
version = 2
root = "$state/containerd"
state = "/run/containerd"
[grpc]
  address = "$state/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true  # without CAP_SYS_RESOURCE no score may be lowered
  sandbox_image = "localhost/box:1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$CNI_DIRECTORY"
    conf_dir = "$state/cni"
Y
: >"$state/resolv.conf"
cat >"$state/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $address
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $STATE_DIR/pki/ca.crt}}
authorization: {mode: Webhook}
containerRuntimeEndpoint: unix://$state/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false            # v1.35 refuses cgroup v1 unless told
failSwapOn: false
protectKernelDefaults: true    # check kernel settings, never write them
makeIPTablesUtilChains: false
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: $state/resolv.conf  # empty: pods do not inherit the machine's resolver
nodeLeaseDurationSeconds: $NODE_GRACE_SECONDS  # renewed at a quarter of it, so that a short grace period works
nodeStatusUpdateFrequency: 2s  # how soon a lost or unhealthy GPU shows in the node
podLogsDir: /var/log/pods
evictionHard: {memory.available: 100Mi, nodefs.available: "1%", imagefs.available: "1%"}
Y
cat >"$state/kube-proxy.yaml" <<Y
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ${PROXY_MODE:-nftables}
hostnameOverride: $name
clusterCIDR: $POD_NETWORK.0.0/16
clientConnection: {kubeconfig: $STATE_DIR/proxy.kubeconfig}
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}   # 0: leave the machine's settings
Y
rm -rf "$state"/containerd/io.containerd.content.v1.content/ingest/* # imports that a power cut interrupted
containerd -c "$state/containerd.toml" >>"$log/$name-containerd.log" 2>&1 &
containerd_client() { ctr -a "$state/containerd.sock" -n k8s.io "$@"; }
wait_for() { # COMMAND...: for two minutes at most
  for _ in $(seq 1200); do
    ! "$@" >/dev/null 2>&1 || return 0
    sleep 0.1
  done
  echo "node.sh: gave up on: $*" >&2
  exit 1
}
wait_for containerd_client version
for archive in "$STATE_DIR"/images/*.tar; do containerd_client images import "$archive" >/dev/null; done
wait_for curl -fsSk -m 2 "https://$NETWORK.1:6443/readyz"

keep() { # NAME COMMAND...: starts it, and again whenever it ends, as systemd would
  local program=$1
  shift
  while :; do
    "$@" </dev/null || true
    echo "--- $program ended"
    sleep 1
  done >>"$log/$name-$program.log" 2>&1 &
}
keep kubelet kubelet --config "$state/kubelet.yaml" --kubeconfig "$STATE_DIR/$name.kubeconfig" --hostname-override "$name" --node-ip "$address"
keep kube-proxy kube-proxy --config "$state/kube-proxy.yaml"
if [ "$GPUS" -gt 0 ]; then
  export COUNT=$GPUS PREFIX=$name UNHEALTHY_FILE=$state/unhealthy-gpus
  keep device-plugin node "$here/device-plugin/device-plugin.ts"
  NODE=$name keep dra-driver node --disable-warning=ExperimentalWarning "$here/dra-driver/dra-driver.ts"
fi
while :; do # as process 1 it also reaps orphans
  sleep 3600 &
  wait $! || true
done
