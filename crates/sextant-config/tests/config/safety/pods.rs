//! What the pods of algorithms get: labels and annotations, resources, volumes and machines.

use super::Verdict::{Refused, Silent, Warned};
use super::judge;
use crate::LEAST;

#[test]
fn devices_of_networks_are_told() {
    let told = |name: &str, expected| {
        for (kind, side) in [("resources", "limits"), ("resources", "requests"), ("helper_resources", "limits")] {
            let more = format!("kubernetes: {{{kind}: {{{side}: {{{name}: 1}}}}}}");
            judge(&more, "device of a network", expected);
        }
    };
    for name in [
        "rdma/hca_shared_devices_a",
        "rdma/ib",
        "vpc.amazonaws.com/efa",
        "vpc.amazonaws.com/pod-eni",
        "intel.com/sriov_net_A",
        "intel.com/intel_sriov_netdevice",
        "nvidia.com/mlnx-nics",
        "openshift.io/mlnx-sriov",
        "mellanox.com/roce_gdr",
        "networking.gke.io.networks/dpdk-vpc.IP",
        "squat.ai/tun",
        "devices.kubevirt.io/vhost-net",
        "cornelisnetworks.com/hfi1",
    ] {
        told(name, Warned("NetworkPolicies don't hold there"));
    }
    for name in [
        "nvidia.com/gpu",
        "nvidia.com/mig-1g.5gb",
        "amd.com/gpu",
        "gpu.intel.com/i915",
        "google.com/tpu",
        "habana.ai/gaudi",
        "aws.amazon.com/neuron",
        "aliyun.com/gpu-mem",
        "tencent.com/vcuda-core",
    ] {
        told(name, Silent);
    }
}

#[test]
fn labels_and_annotations_that_are_sextants_or_kubernetess_own() {
    let own = Refused("Sextant's own");
    let jobs = Refused("Kubernetes itself");
    let weaker = Refused("takes protection away");
    let reserved = Warned("reserved for Kubernetes");
    let network = Warned("network");
    let sidecar = Warned("inject");
    for kind in ["labels", "annotations"] {
        for (key, value, expected) in [
            ("gke-gcsfuse/volumes", "true", sidecar),
            ("vault.security.bank-vaults.io/vault-addr", "x", sidecar),
            ("secrets-webhook.security.bank-vaults.io/provider", "vault", sidecar),
            ("conjur.org/authn-identity", "x", sidecar),
            ("iam.cloud.google.com/service-account", "x", sidecar),
            ("eks.amazonaws.com/sa-token-expiration", "1", sidecar),
            ("spiffe.io/spiffe-id", "true", sidecar),
            ("operator.1password.io/status", "x", sidecar),
            ("tke.cloud.tencent.com/networks", "x", network),
            ("cni", "weave", network),
            ("networkservicemesh.io", "x", network),
            ("ns.networkservicemesh.io", "x", network),
            ("ipam.spidernet.io/ippools", "x", network),
            ("egress.antrea.io/x", "x", network),
            ("tailscale.com/expose", "true", network),
            ("kubevirt.io/x", "x", Warned("a component of the cluster")),
            ("kube-vip.io/x", "x", Warned("a component of the cluster")),
            ("cluster-autoscaler.kubernetes.io/safe-to-evict-evil", "x", reserved),
            ("policies.kyverno.io/x", "x", Warned("judges pods in the cluster")),
            ("admission.gatekeeper.sh/ignore", "x", Warned("")),
            ("vantage6.ai/probe", "prober", own),
            ("vantage6.ai/run", "7", own),
            ("vantage6.ai/anything", "7", own),
            ("vantage6.ai/reported", "completed", own),
            ("database.vantage6.ai/warehouse", "true", own),
            ("a.b.vantage6.ai/x", "y", own),
            ("app.kubernetes.io/name", "x", own),
            ("app.kubernetes.io/component", "node", own),
            ("batch.kubernetes.io/job-name", "x", jobs),
            ("batch.kubernetes.io/controller-uid", "x", jobs),
            ("controller-uid", "x", jobs),
            ("job-name", "x", jobs),
            ("kubernetes.io/anything", "x", reserved),
            ("node.kubernetes.io/x", "y", reserved),
            ("cdi.k8s.io/gpu", "x", reserved),
            ("k8s.io/x", "y", reserved),
            ("sidecar.istio.io/inject", "true", sidecar),
            ("linkerd.io/inject", "enabled", sidecar),
            ("vault.hashicorp.com/agent-inject", "true", sidecar),
            ("istio.io/rev", "default", sidecar),
            ("azure.workload.identity/use", "true", sidecar),
            ("sidecar.istio.io/inject", "false", Silent),
            ("linkerd.io/inject", "disabled", Silent),
            ("team", "data", Silent),
            ("example.org/team", "data", Silent),
            ("notvantage6.ai/x", "data", Silent),
            ("app.kubernetes.io/part-of", "study", Silent),
            ("app.kubernetes.io/managed-by", "us", Silent),
            ("kueue.x-k8s.io/queue-name", "us", Silent),
        ] {
            judge(&format!("kubernetes: {{{kind}: {{{key}: '{value}'}}}}"), "kubernetes.", expected);
        }
    }
    for (key, value, expected) in [
        ("container.apparmor.security.beta.kubernetes.io/algorithm", "unconfined", weaker),
        ("seccomp.security.alpha.kubernetes.io/pod", "unconfined", weaker),
        ("container.seccomp.security.alpha.kubernetes.io/algorithm", "unconfined", weaker),
        ("security.alpha.kubernetes.io/unsafe-sysctls", "a", weaker),
        ("k8s.v1.cni.cncf.io/networks", "storage", network),
        ("v1.multus-cni.io/default-network", "storage", network),
        ("cni.projectcalico.org/ipAddrs", "x", network),
        ("networking.gke.io/interfaces", "x", network),
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false", Silent),
    ] {
        judge(&format!("kubernetes: {{annotations: {{{key}: '{value}'}}}}"), "kubernetes.annotations", expected);
    }
    // The chart says both of its release, and where its Services are.
    let both = "{app.kubernetes.io/instance: a, sextant.vantage6.ai/release: b.a}";
    let ports = "data_port: {address: 'a-node.b.svc:7654'}, proxy: {address: 'a-proxy.b.svc:8080'}";
    judge(&format!("kubernetes: {{labels: {both}, {ports}}}"), "kubernetes.", Silent);
    judge(&format!("kubernetes: {{annotations: {both}}}"), "kubernetes.", own);
    for one in ["app.kubernetes.io/instance: a", "sextant.vantage6.ai/release: b.a"] {
        judge(&format!("kubernetes: {{labels: {{{one}}}}}"), "kubernetes.", Warned("release"));
    }
    judge("kubernetes: {labels: {sextant.vantage6.ai/node: a}}", "kubernetes.", own);
}

#[test]
fn labels_of_another_release_are_refused_where_they_can_be_known() {
    let long = "n".repeat(40);
    let digest = "0123456789abcdef".repeat(4)[..63].to_owned();
    let other = Refused("the rights of another release");
    let unknown = Warned("the runs get the rights of the release");
    for (address, release, instance, expected) in [
        ("a-node.b.svc:7654", "b.a", "a", Silent),
        ("a-node.b.svc", "b.a", "a", Silent),
        ("a-node.b.svc:7654", "c.a", "a", other),
        ("a-node.b.svc:7654", "b.c", "a", other),
        ("a-node.b.svc:7654", &digest, "a", other),
        ("a-node.b.svc:7654", &digest, &long, other),
        (&format!("a-node.{long}.svc:7654"), &digest, &long, Silent),
        ("10.96.0.7:7654", "b.a", "a", unknown),
        ("10.96.0.7:7654", &digest, "a", unknown),
        ("10.96.0.7:7654", "b.c", "a", other),
        ("10.96.0.7:7654", "b", "a", other),
    ] {
        let labels = format!("{{app.kubernetes.io/instance: {instance}, sextant.vantage6.ai/release: '{release}'}}");
        judge(
            &format!("kubernetes: {{labels: {labels}, data_port: {{address: '{address}'}}}}"),
            "kubernetes.",
            expected,
        );
        judge(&format!("kubernetes: {{labels: {labels}, proxy: {{address: '{address}'}}}}"), "kubernetes.", expected);
    }
    judge(
        "kubernetes: {labels: {app.kubernetes.io/instance: a, sextant.vantage6.ai/release: b.a}}",
        "kubernetes.",
        unknown,
    );
}

#[test]
fn names_that_runtimes_of_containers_read() {
    let runtime = Warned("speaks to the runtime of containers");
    for (key, expected) in [
        ("io.kubernetes.cri-o.Devices", runtime),
        ("io.kubernetes.cri-o.userns-mode", runtime),
        ("io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel", runtime),
        ("io.kubernetes.cri-o.UnifiedCgroup.algorithm", runtime),
        ("io.katacontainers.config.hypervisor.kernel", runtime),
        ("io.katacontainers.config.runtime.disable_guest_seccomp", runtime),
        ("run.oci.hooks.stdout", runtime),
        ("run.oci.keep_original_groups", runtime),
        ("run.oci.systemd.subgroup", runtime),
        ("org.systemd.property.DeviceAllow", runtime),
        ("dev.gvisor.spec.mount.data.source", runtime),
        ("irq-load-balancing.crio.io", runtime),
        ("irq-load-balancing.crio.io/x", runtime),
        ("crio.io/x", runtime),
        ("devices.noderesource.dev/pod", runtime),
        ("mounts.noderesource.dev/container.algorithm", runtime),
        ("devices.nri.containerd.io/pod", runtime),
        ("ulimits.nri.containerd.io/container.algorithm", runtime),
        ("virtual-kubelet.io/x", runtime),
        ("link-logs.cri-o.io/x", runtime),
        ("devices.nri.io/container.algorithm", runtime),
        ("io.kubernetes.cri-o.seccompProfile.algorithm", Refused("takes protection away")),
        ("seccomp-profile.kubernetes.cri-o.io/algorithm", Refused("takes protection away")),
        ("run.ocis", Silent),
        ("notcrio.io/x", Silent),
        ("io.kubernetes.cri-ology", Silent),
    ] {
        judge(&format!("kubernetes: {{annotations: {{{key}: x}}}}"), "kubernetes.annotations", expected);
    }
}

#[test]
fn resources_without_an_end() {
    let zero = Refused("takes zero for no limit");
    let none = Warned("NO LIMIT");
    for (limits, expected) in [
        ("memory: 0", zero),
        ("memory: '0'", zero),
        ("memory: 0Gi", zero),
        ("memory: '0.0'", zero),
        ("memory: 0e3", zero),
        ("cpu: 0", zero),
        ("cpu: 0m", zero),
        ("ephemeral-storage: 0", zero),
        ("memory: null", none),
        ("memory: ", none),
        ("ephemeral-storage: ~", none),
        ("memory: 900Pi", Warned("more memory than a machine has")),
        ("ephemeral-storage: 2Ei", Warned("more ephemeral-storage than a machine has")),
        ("memory: 24Ti", Silent),
        ("cpu: null", Silent),
        ("memory: 1", Silent),
        ("nvidia.com/gpu: 0", Silent),
        ("ephemeral-storage: 1Gi", Silent),
    ] {
        judge(&format!("kubernetes: {{resources: {{limits: {{{limits}}}}}}}"), "resources", expected);
    }
    judge("kubernetes: {resources: {requests: {memory: 0, cpu: null}}}", "resources", Silent);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.yaml");
    let told = |limits: &str| {
        std::fs::write(&file, format!("{LEAST}kubernetes: {{resources: {{limits: {{{limits}}}}}}}\n")).unwrap();
        sextant_config::check(&file).to_string()
    };
    let all = told("memory: null, ephemeral-storage: null");
    assert!(all.contains("memory 256Mi; NO LIMIT on memory and ephemeral-storage\n"), "{all}");
    let one = told("memory: null");
    assert!(one.contains("; gets at most ephemeral-storage 10Gi; NO LIMIT on memory\n"), "{one}");
}

#[test]
fn volumes_that_give_algorithms_secrets() {
    let token = Refused("serviceAccountToken");
    let own = Refused("a Secret of Sextant's own");
    let shown = Warned("is a Secret");
    let unwritable = Refused("a volume that can be written to");
    let projected = |source: &str| format!("projected: {{sources: [{{configMap: {{name: a}}}}, {{{source}}}]}}");
    let (token_source, secret, of_the_port) = (
        projected("serviceAccountToken: {path: token}"),
        projected("secret: {name: data}"),
        projected("secret: {name: sextant-data-port-7}"),
    );
    for (volume, as_database, as_tmp) in [
        (token_source.as_str(), token, token),
        ("secret: {secretName: sextant-data-port-abc}", own, own),
        ("secret: {secretName: sextant-registries-abc-1}", own, own),
        (&of_the_port, own, own),
        ("secret: {secretName: data}", shown, unwritable),
        (&secret, shown, unwritable),
        ("configMap: {name: data}", Silent, unwritable),
        ("projected: {sources: [{configMap: {name: a}}]}", Silent, unwritable),
        ("downwardAPI: {items: [{path: a, fieldRef: {fieldPath: metadata.name}}]}", Silent, unwritable),
        ("persistentVolumeClaim: {claimName: data}", Silent, Silent),
        ("emptyDir: {}", Silent, Silent),
        ("nfs: {server: a, path: /a}", Silent, Silent),
        ("csi: {driver: secrets-store.csi.k8s.io, readOnly: true}", shown, shown),
        ("csi: {driver: csi.spiffe.io}", shown, shown),
        ("csi: {driver: csi.cert-manager.io}", shown, shown),
        ("csi: {driver: secrets.csi.hashicorp.com}", shown, shown),
        ("flexVolume: {driver: a/secrets}", shown, shown),
        ("hostPath: {path: /data/a, type: Socket}", Warned("a socket or a device"), Warned("a socket or a device")),
        (
            "hostPath: {path: /data/a, type: BlockDevice}",
            Warned("a socket or a device"),
            Warned("a socket or a device"),
        ),
        ("hostPath: {path: /data/a, type: Directory}", Silent, Silent),
        ("csi: {driver: nfs.csi.k8s.io}", Silent, Silent),
        ("csi: {driver: file.csi.azure.com}", Silent, Silent),
        ("csi: {driver: rook-ceph.cephfs.csi.ceph.com}", Silent, Silent),
    ] {
        let database =
            format!("databases: [{{label: a, type: other}}]\nkubernetes: {{databases: {{a: {{{volume}}}}}}}");
        judge(&database, "kubernetes.databases.a", as_database);
        judge(&format!("kubernetes: {{tmp: {{{volume}}}}}"), "kubernetes.tmp", as_tmp);
    }
}

#[test]
fn algorithms_on_the_machines_of_the_control_plane() {
    let expected = Warned("control plane");
    for more in [
        "node_selector: {node-role.kubernetes.io/control-plane: ''}",
        "node_selector: {node-role.kubernetes.io/master: ''}",
        "tolerations: [{operator: Exists}]",
        "tolerations: [{key: node-role.kubernetes.io/controlplane, operator: Exists}]",
        "tolerations: [{key: node-role.kubernetes.io/etcd, operator: Exists}]",
        "tolerations: [{key: CriticalAddonsOnly, operator: Exists}]",
        "node_selector: {node-role.kubernetes.io/controlplane: 'true'}",
        "node_selector: {node-role.kubernetes.io/etcd: 'true'}",
        "node_selector: {kubernetes.io/role: master}",
        "node_selector: {node.kubernetes.io/microk8s-controlplane: x}",
        "tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]",
        "tolerations: [{key: node-role.kubernetes.io/master, operator: Exists, effect: NoSchedule}]",
    ] {
        judge(&format!("kubernetes: {{{more}}}"), "kubernetes.", expected);
    }
    judge(
        "kubernetes: {node_selector: {kubernetes.io/arch: arm64, node.kubernetes.io/role: worker}}",
        "kubernetes.",
        Silent,
    );
    judge("kubernetes: {tolerations: [{key: nvidia.com/gpu, operator: Exists}]}", "kubernetes.", Silent);
}
