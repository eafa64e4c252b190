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
}

restore_machine() {
    local name
    [ -d "$before" ] || return 0
    for name in "${settings[@]}"; do
        [ ! -e "$before/${name//\//,}" ] || cat "$before/${name//\//,}" >"/proc/sys/$name"
    done
    # Only folders that weren't there before: what is in them is the cluster's.
    while read -r name; do rm -rf "$name"; done <"$before/folders"
    rm -rf "$before"
}
