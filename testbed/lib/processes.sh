# The cluster's processes. Each runs in a cgroup of its own, sextant/NAME, and the pods in sextant/kubepods: so the
# kernel itself knows which processes are the cluster's, also after a crash, and no file with process ids can be stale.
# shellcheck shell=bash

if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    cgroup_roots=(/sys/fs/cgroup)                         # version 2: one tree
else
    cgroup_roots=(/sys/fs/cgroup/pids $(awk '$3 ~ /^cgroup2?$/ && $2 != "/sys/fs/cgroup/pids" { print $2 }' /proc/mounts))
fi
cgroup_tree=${cgroup_roots[0]}/sextant                    # the tree in which processes are counted

# start NAME COMMAND…: in the background, in its cgroup, its output in the file log/NAME.log.
start() {
    local name=$1
    shift
    mkdir -p "$cgroup_tree/$name"
    # A lock that this script holds must not live on in the process: {lock}<&-.
    (
        echo "$BASHPID" >"$cgroup_tree/$name/cgroup.procs"
        exec setsid "$@" >>"$cluster/log/$name.log" 2>&1 </dev/null {lock}<&-
    ) &
}

# start_kubelet: with the configuration that is there now. Pods outlive it, and the next one goes on with them.
start_kubelet() {
    start kubelet "$(kube)" kubelet --config="$cluster/etc/kubelet.yaml" --kubeconfig="$cluster/kubelet.conf" \
        --hostname-override="$node" --node-ip="$node_address" --root-dir="$cluster/kubelet"
}

# pids_of NAME: the processes in that cgroup and beneath it; none is fine.
pids_of() { [ -d "$cgroup_tree/$1" ] && find "$cgroup_tree/$1" -name cgroup.procs -exec cat {} + 2>/dev/null; true; }

is_running() { [ -n "$(pids_of "$1")" ]; }

# start_apiserver: all that it knows is in etcd, so the next one goes on where the last one was.
start_apiserver() {
    start apiserver "$(kube)" apiserver --etcd-servers=http://127.0.0.1:2379 \
        --bind-address="$node_address" --advertise-address="$node_address" --secure-port=6443 \
        --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
        --kubelet-client-certificate="$pki/admin.crt" --kubelet-client-key="$pki/admin.key" --kubelet-certificate-authority="$pki/ca.crt" \
        --kubelet-preferred-address-types=InternalIP --proxy-client-cert-file="$pki/admin.crt" --proxy-client-key-file="$pki/admin.key" \
        --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$pki/tokens.pub" \
        --service-account-signing-key-file="$pki/tokens.key" --service-cluster-ip-range="$service_range" \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
        --audit-policy-file="$cluster/etc/audit.yaml" --audit-log-path="$cluster/log/audit.log" \
        --audit-log-maxsize=200 --audit-log-maxbackup=1
}

# stop NAME…: asks all of them to end, waits, and kills what is left after ten seconds.
stop() {
    local name pid deadline=$((SECONDS + 10))
    for name in "$@"; do
        for pid in $(pids_of "$name"); do kill "$pid" 2>/dev/null || true; done
    done
    for name in "$@"; do
        while is_running "$name"; do
            [ $SECONDS -lt $deadline ] || kill_all "$name"
            sleep 0.05
        done
    done
}

# kill_all NAME: at once, without asking; returns when they are gone.
kill_all() {
    local pid
    while is_running "$1"; do
        for pid in $(pids_of "$1"); do kill -9 "$pid" 2>/dev/null || true; done
        sleep 0.05
    done
}

make_cgroups() { for root in "${cgroup_roots[@]}"; do mkdir -p "$root/sextant"; done; }

remove_cgroups() {
    local root
    for root in "${cgroup_roots[@]}"; do
        [ ! -d "$root/sextant" ] || find "$root/sextant" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
}
