# The configuration files of the cluster's parts, written below the cluster's folder.
# shellcheck shell=bash

write_configuration() {
    mkdir -p "$cluster"/{log,etc,bin,kubelet}
    local registry
    for registry in "$open_registry" "$closed_registry"; do
        mkdir -p "$cluster/etc/registries/$registry"
        # Plain HTTP, which containerd only speaks where it is told to. It ignores a file without a host in it.
        printf 'server = "http://%s"\n[host."http://%s"]\n  capabilities = ["pull", "resolve"]\n' "$registry" "$registry" \
            >"$cluster/etc/registries/$registry/hosts.toml"
    done

    # Without plugins of containers (NRI) and added programs (opt), which would make folders outside of the cluster's own.
    # restrict_oom_score_adj: without the capability to lower it (as in most sandboxes) no container would start.
    cat >"$cluster/etc/containerd.toml" <<X
version = 3
root = "$cluster/containerd"
state = "$state/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "$socket"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "localhost/pause:1"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "$cluster/etc/registries"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["$cluster/bin"]
    conf_dir = "$state/cni.d"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      runtime_path = "$built/containerd/containerd-shim-runc-v2"
X

    write_kubelet_configuration

    cat >"$cluster/etc/kube-proxy.yaml" <<X
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $kubeconfig}
clusterCIDR: $pod_range
hostnameOverride: $node
mode: iptables
healthzBindAddress: 127.0.0.1:10256
nodePortAddresses: ["$node_address/32"]
conntrack: {maxPerCore: 0}
X

    # Who asked what of the API server, without the contents.
    cat >"$cluster/etc/audit.yaml" <<X
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
X
}

# write_kubelet_configuration [FREE]: it evicts pods when less of its disk than FREE is free, in bytes or percent.
write_kubelet_configuration() {
    # The images that were loaded can't be pulled again: the kubelet must never collect them, not even before it evicts pods.
    # Nor ask for a login: since 1.35 it would for each name of an image that a test has also pulled with one.
    cat >"$cluster/etc/kubelet.yaml" <<X
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $node_address
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/kubelet.crt
tlsPrivateKeyFile: $pki/kubelet.key
containerRuntimeEndpoint: unix://$socket
cgroupDriver: cgroupfs
failCgroupV1: false
cgroupRoot: /sextant
enforceNodeAllocatable: []
failSwapOn: false
evictionHard: {memory.available: "100Mi", nodefs.available: "${1:-1%}", imagefs.available: "1%"}
imageGCHighThresholdPercent: 100
imageMinimumGCAge: 24h
imagePullCredentialsVerificationPolicy: NeverVerify
syncFrequency: 10s
nodeStatusUpdateFrequency: 10s
resolvConf: /etc/resolv.conf
podLogsDir: $cluster/log/pods
volumePluginDir: $cluster/kubelet/volume-plugins
X
}
