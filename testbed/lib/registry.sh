# The two registries: the open one, and the closed one which wants a login. They live and die with the cluster, since
# their address is the node's.
# shellcheck shell=bash disable=SC2034

registry_user=researcher
registry_password=open-sesame
registry=$built/registry/registry
crane=$built/registry/crane
# Where crane keeps its login, away from that of whoever runs this.
export DOCKER_CONFIG=$cluster/registry/login

# serve_registry NAME ADDRESS [ACCESS-RULE]
serve_registry() {
    cat >"$cluster/registry/$1.yaml" <<X
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $cluster/registry/$1}, delete: {enabled: true}}
http: {addr: "$2"}
${3:-}
X
    start "registry-$1" env OTEL_TRACES_EXPORTER=none "$registry" serve "$cluster/registry/$1.yaml"
    wait_for 15 "The registry at $2 answered" answers "$2"
}

# answers ADDRESS: something speaks HTTP there, be it to ask for a login.
answers() { curl -s -o /dev/null --max-time 2 "http://$1/v2/"; }
