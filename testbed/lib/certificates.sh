# The cluster's certificates and kubeconfigs: made anew each time it starts, worth nothing afterwards.
# shellcheck shell=bash

pki=$cluster/pki

make_certificates() {
    rm -rf "$pki"
    mkdir -m 700 "$pki"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=sextant-testbed \
        -keyout "$pki/ca.key" -out "$pki/ca.crt" 2>/dev/null
    certificate apiserver /CN=kube-apiserver "IP:127.0.0.1,IP:$node_address,IP:${service_range%.0/*}.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
    certificate admin /O=system:masters/CN=admin DNS:admin
    certificate kubelet "/O=system:nodes/CN=system:node:$node" "DNS:$node,IP:$node_address"
    # The key with which the API server signs the tokens of service accounts.
    openssl genrsa -out "$pki/tokens.key" 2048 2>/dev/null
    openssl rsa -in "$pki/tokens.key" -pubout -out "$pki/tokens.pub" 2>/dev/null
    write_kubeconfig admin "$kubeconfig"
    write_kubeconfig kubelet "$cluster/kubelet.conf"
}

# certificate NAME SUBJECT ALTERNATIVE-NAMES
certificate() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "$pki/$1.key" -out "$pki/$1.csr" 2>/dev/null
    openssl x509 -req -in "$pki/$1.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial -days 3650 -out "$pki/$1.crt" \
        -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$3") 2>/dev/null
}

# write_kubeconfig CERTIFICATE FILE: put in place whole, since others may be reading it.
write_kubeconfig() {
    (umask 077; cat >"$2.new") <<X
apiVersion: v1
kind: Config
clusters:
- name: sextant-testbed
  cluster: {server: "https://$node_address:6443", certificate-authority-data: $(base64 -w0 "$pki/ca.crt")}
users:
- name: $1
  user: {client-certificate-data: $(base64 -w0 "$pki/$1.crt"), client-key-data: $(base64 -w0 "$pki/$1.key")}
contexts:
- name: sextant-testbed
  context: {cluster: sextant-testbed, user: $1}
current-context: sextant-testbed
X
    mv "$2.new" "$2"
}
