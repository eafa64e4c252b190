# What the scripts of the cluster agree on: its addresses, its places, its parts.
# shellcheck shell=bash disable=SC2034

node="node-1"
node_address=10.99.0.1        # on an interface of its own, so that it is there on every machine and collides with nothing
node_interface=node0
pod_range=10.244.0.0/16
service_range=10.96.0.0/16
open_registry=$node_address:5000
closed_registry=$node_address:5001

state=/run/sextant            # sockets and what the running cluster must remember: gone after a restart of the machine
socket=$state/containerd.sock
kubeconfig=$cluster/admin.conf

# The order in which they start; they stop in the opposite one.
control_plane=(etcd apiserver controller-manager scheduler)
node_parts=(containerd kubelet kube-proxy)

# running_kube: kube or kube-1.31, as the running cluster was started; without one, as the next will be.
running_kube() { cat "$state/kube" 2>/dev/null || echo "$kube_name"; }

ctr() { CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1 "$built/containerd/ctr" -a "$socket" -n k8s.io "$@"; }
kube() { echo "$built/$(running_kube)/kube"; }
kubectl() { "$built/$(running_kube)/kubectl" --kubeconfig "$kubeconfig" "$@"; }

# network_plugin: cilium or bridge, as the running cluster was started.
network_plugin() { cat "$state/cni" 2>/dev/null || true; }

# expected_parts: the names of the processes that the running cluster should have.
expected_parts() {
    printf '%s\n' "${control_plane[@]}" "${node_parts[@]}"
    [ "$(network_plugin)" != cilium ] || echo cilium-agent
}

# dead_parts: those of them which don't run.
dead_parts() { local part; for part in $(expected_parts); do is_running "$part" || echo "$part"; done; }

is_ready() { [ "$(kubectl get node "$node" --request-timeout=2s -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null)" = True ]; }

# is_up: everything runs and the node takes pods.
is_up() { [ -n "$(network_plugin)" ] && [ -z "$(dead_parts)" ] && is_ready; }

# wait_for SECONDS WHAT COMMAND…: until the command succeeds; else the test bed says which log to read.
wait_for() {
    local deadline=$((SECONDS + $1)) limit=$1 what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || die "$what did not happen within $limit s. Not running: $(dead_parts | tr '\n' ' '). Read $cluster/log/*.log, then: $testbed/cluster-down and $testbed/cluster-up."
        sleep 0.1
    done
}
