# What the cluster's parts change in the machine without being asked: kernel settings and folders outside of the cache.
# Remembered before it starts, put back when it ends.
# shellcheck shell=bash

# Kept in the cache, not in /run, since the folders outlast a restart of the machine.
before=$cluster/before

# kernel.unprivileged_bpf_disabled, which Cilium sets to 1, is missing: the kernel never lets it go back.
settings=(
    kernel/panic kernel/panic_on_oops kernel/timer_migration vm/overcommit_memory
    net/ipv4/ip_forward net/ipv4/conf/all/route_localnet net/ipv4/conf/all/rp_filter net/ipv4/conf/default/rp_filter
    net/ipv4/fib_multipath_use_neigh
    net/netfilter/nf_conntrack_tcp_timeout_close_wait net/netfilter/nf_conntrack_tcp_timeout_established
)
folders=(/run/cilium /run/containerd /run/netns /usr/libexec/kubernetes /var/lib/cni /var/lib/kubelet /var/log/containers)

remember_machine() {
    local name
    mkdir -p "$before"
    for name in "${settings[@]}"; do
        [ ! -e "/proc/sys/$name" ] || cat "/proc/sys/$name" >"$before/${name//\//,}"
    done
    for name in "${folders[@]}"; do [ -e "$name" ] || echo "$name"; done >"$before/folders"
    network_things >"$before/network"
}

# network_things: the namespaces and interfaces that this machine has, of the kinds that pods get from containerd, Cilium
# and the bridge plugin.
network_things() {
    { ls /run/netns 2>/dev/null || true; } | sed -n 's/^cni-/namespace &/p'
    ip -o link | sed -nE 's/^[0-9]+: ((lxc|veth)[^@:]*).*/interface \1/p'
}

# remove_pod_networks: those that came since. Neither the runtime nor the plugin need to be alive for it, and both lose
# sight of some when they die while a pod starts or ends.
remove_pod_networks() {
    local kind name
    [ -e "$before/network" ] || return 0
    network_things | grep -vxFf "$before/network" | while read -r kind name; do
        case $kind in
            interface) ip link delete "$name" 2>/dev/null || true ;;
            namespace) ip netns delete "$name" || true ;;
        esac
    done || true
}

restore_machine() {
    local name
    [ -d "$before" ] || return 0
    for name in "${settings[@]}"; do
        [ ! -e "$before/${name//\//,}" ] || cat "$before/${name//\//,}" >"/proc/sys/$name"
    done
    # Only folders that weren't there before: what is in them is the cluster's.
    while read -r name; do rm -rf "$name" || say "could not remove $name, which the cluster has made"; done <"$before/folders"
    rm -rf "$before"
}
