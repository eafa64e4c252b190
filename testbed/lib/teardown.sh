# Ends the cluster, in whatever state it is: up, half up, or what a crash or a restart of the machine has left.
# shellcheck shell=bash

teardown() {
    local part
    # Their state is thrown away, so nobody needs to be asked; the kubelet first, lest it starts pods again.
    for part in kubelet "${control_plane[@]}" kube-proxy cilium-agent kubepods; do kill_all "$part"; done
    remove_containers
    stop containerd
    # Registries, the containers' shims, and whatever else was started in the cluster's name.
    for part in "$cgroup_tree"/*/; do kill_all "$(basename "$part")"; done
    unmount_all
    remove_pod_networks
    remove_network
    remove_cgroups
    remove_files
    restore_machine
}

# remove_containers: in good order if containerd can be asked; else it starts from nothing next time. Images that were
# loaded stay, pulled ones go: a test that pulls has to find them missing.
remove_containers() {
    local things
    if is_running containerd && ctr version >/dev/null 2>&1; then
        mapfile -t things < <(ctr tasks list -q)
        [ ${#things[@]} -eq 0 ] || ctr tasks delete --force "${things[@]}" >/dev/null 2>&1 || true
        mapfile -t things < <(ctr containers list -q)
        [ ${#things[@]} -eq 0 ] || ctr containers delete "${things[@]}" >/dev/null 2>&1 || true
        mapfile -t things < <(ctr images list -q | grep -E "^($open_registry|$closed_registry)/" || true)
        [ ${#things[@]} -eq 0 ] || ctr images delete "${things[@]}" >/dev/null 2>&1 || true
        [ -n "$(ctr containers list -q)" ] || touch "$state/containers-removed"
    fi
}

unmount_all() {
    local mount
    awk -v a="$state/" -v b="$cluster/" 'index($2, a) == 1 || index($2, b) == 1 { print $2 }' /proc/mounts | sort -r |
        while read -r mount; do umount "$mount" 2>/dev/null || umount --lazy "$mount"; done
}

remove_files() {
    [ -e "$state/containers-removed" ] || rm -rf "$cluster/containerd"
    find /var/log/containers -lname "$cluster/*" -delete 2>/dev/null || true
    rm -rf "${state:?}" "${cluster:?}"/{etcd,kubelet,cilium,pki,etc,bin,registry} "$kubeconfig" "$cluster/kubelet.conf"
}
