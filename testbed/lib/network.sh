# What the cluster puts into the machine's network, and how it is taken out again.
# shellcheck shell=bash

# add_node_address: pods and the machine's own processes know the node by this address.
add_node_address() {
    echo 1 >/proc/sys/net/ipv4/ip_forward
    ip link add "$node_interface" type bridge
    ip address add "$node_address/32" dev "$node_interface"
    ip link set "$node_interface" up
}

# link_plugins: the CNI plugins and what they call, all in one folder, since containerd looks in one only.
link_plugins() {
    ln -sf /usr/lib/cni/* "$cluster/bin"
    ln -sf "$built"/cilium/cilium-{agent,cni,dbg} "$cluster/bin"
    ln -sf "${CLANG:-/usr/lib/llvm-19/bin/clang}" "$cluster/bin/clang"
}

# use_bridge: the plain bridge plugin, which enforces no policy.
use_bridge() {
    enable_plugin bridge "{\"type\":\"bridge\",\"bridge\":\"cni0\",\"isDefaultGateway\":true,\"hairpinMode\":true,
        \"ipam\":{\"type\":\"host-local\",\"dataDir\":\"$state/addresses\",\"ranges\":[[{\"subnet\":\"${pod_range%.0/*}.0/24\"}]]}}"
}

# use_cilium: the agent alone, without operator, Envoy and Hubble; policies are BPF programs at each pod's interface.
use_cilium() {
    if ! mountpoint -q /sys/fs/bpf; then
        mount -t bpf bpf /sys/fs/bpf
        touch "$state/mounted-bpf"
    fi
    rm -rf "$cluster/cilium"
    mkdir -p "$cluster/cilium"
    cp -r "$built/cilium/bpf" "$cluster/cilium/bpf"     # the agent writes generated headers into it
    local cgroups=()
    ! mountpoint -q /sys/fs/cgroup/unified || cgroups=(--cgroup-root=/sys/fs/cgroup/unified)
    [ ! -e /sys/fs/cgroup/cgroup.controllers ] || cgroups=(--cgroup-root=/sys/fs/cgroup)
    start cilium-agent env PATH="$cluster/bin:$PATH" K8S_NODE_NAME="$node" \
        "$cluster/bin/cilium-agent" --k8s-kubeconfig-path="$kubeconfig" --lib-dir="$cluster/cilium" \
        --cluster-name=default --identity-allocation-mode=crd --ipam=kubernetes --k8s-require-ipv4-pod-cidr=true \
        --enable-ipv4=true --enable-ipv6=false --routing-mode=native --ipv4-native-routing-cidr="$pod_range" --enable-ipv4-masquerade=false \
        --devices="$node_interface" --kube-proxy-replacement=false --enable-l7-proxy=false --enable-policy=default \
        --policy-cidr-match-mode=nodes \
        --enable-hubble=false --enable-health-checking=false --enable-endpoint-health-checking=false "${cgroups[@]}" \
        --bpf-ct-global-tcp-max=65536 --bpf-ct-global-any-max=32768 --bpf-nat-global-max=65536
    wait_for 90 "Cilium's agent became healthy" "$cluster/bin/cilium-dbg" status --brief
    enable_plugin cilium "{\"type\":\"cilium-cni\",\"log-file\":\"$cluster/log/cilium-cni.log\"}"
}

# enable_plugin NAME JSON: from now on pods get a network. Written in place: containerd 1.6 doesn't notice a file that is
# renamed into place.
enable_plugin() { echo "{\"cniVersion\":\"1.0.0\",\"name\":\"$1\",\"plugins\":[$2]}" >"$state/cni.d/10-$1.conflist"; }

# remove_network: whatever of all this is there, and what Cilium leaves on purpose so that its policies outlive it.
remove_network() {
    local interface tables
    if [ -d /sys/fs/bpf/cilium ] || [ -d /run/cilium ] || ip link show cilium_host >/dev/null 2>&1; then
        rm -f /run/cilium/cilium.pid     # the agent was killed, but its command line believes the file
        "$built/cilium/cilium-dbg" post-uninstall-cleanup --force --all-state >"$cluster/log/cilium-cleanup.log" 2>&1 ||
            say "cilium-dbg post-uninstall-cleanup failed, see $cluster/log/cilium-cleanup.log"
    fi
    for interface in "$node_interface" cni0; do ip link delete "$interface" 2>/dev/null || true; done
    for tables in iptables ip6tables; do remove_rules $tables; done
    if [ -e "$state/mounted-bpf" ]; then umount /sys/fs/bpf || true; fi
}

# remove_rules iptables|ip6tables: the chains of kubelet, kube-proxy and Cilium, and the rules that lead there.
remove_rules() {
    local ours='KUBE-|CILIUM_|cilium' rules
    rules=$("$1-save" -c 2>/dev/null) || return 0
    ! grep -qE "$ours" <<<"$rules" || grep -vE "$ours" <<<"$rules" | "$1-restore" -c
}
