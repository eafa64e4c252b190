{{/* What NOTES.txt looks for. */}}

{{/* Whether one of some rules (`to` of each, as in a NetworkPolicy) leads to all addresses, or to so many of them that it makes no difference. */}}
{{- define "sextant.leadsEverywhere" -}}
{{- $found := false -}}
{{- range . -}}
{{- if not .to }}{{ $found = true }}{{ end -}}
{{- if include "sextant.isWide" .to }}{{ $found = true }}{{ end -}}
{{- end -}}
{{- if $found }}true{{ end -}}
{{- end }}

{{/* Whether one of some ranges of addresses is all of them, or so many that it makes no difference. */}}
{{- define "sextant.areWideRanges" -}}
{{- $found := false -}}
{{- range . -}}
{{- if include "sextant.isWideRange" . }}{{ $found = true }}{{ end -}}
{{- end -}}
{{- if $found }}true{{ end -}}
{{- end }}

{{/* Whether a range of addresses is wide: a part of the internet is sooner than a part of a network of one's own. IPv4 may be written as
IPv6: mapped (::ffff:0:0/96), or for a translator (64:ff9b::/96, 64:ff9b:1::/48); there is nothing else at these beginnings. */}}
{{- define "sextant.isWideRange" -}}
{{- $length := regexReplaceAll "^[^/]*/?" . "" | trimPrefix "0" | trimPrefix "0" | default (ternary "0" "128" (contains "/" .)) | int -}}
{{- $least := 16 -}}
{{- if contains ":" . -}}
{{- $least = 32 -}}
{{- if regexMatch "(?i)^f[cd]" . }}{{ $least = 16 }}{{ end -}}
{{- if regexMatch "^(:|0{1,4}:|0{0,2}64:)" . }}{{ $least = 112 }}{{ end -}}
{{- else if hasPrefix "10." . }}{{ $least = 8 -}}
{{- else if regexMatch "^172\\.(1[6-9]|2[0-9]|3[01])\\." . }}{{ $least = 12 -}}
{{- else if regexMatch "^100\\.(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7])\\." . }}{{ $least = 10 -}}
{{- end -}}
{{- if lt $length $least }}true{{ end -}}
{{- end }}

{{/* Those of some ranges of IPv4 addresses that are written by an address within them: all of the range counts, not the address alone. */}}
{{- define "sextant.namedByAnAddress" -}}
{{- $found := list -}}
{{- range . -}}
{{- if regexMatch "^[0-9]+([.][0-9]+){3}/([0-9]|[12][0-9]|3[0-2])$" . -}}
{{- $number := 0 -}}
{{- range splitList "." (regexReplaceAll "/.*" . "") }}{{ $number = add (mul $number 256) (regexReplaceAll "^0+(.)" . "${1}" | int) }}{{ end -}}
{{- $size := 1 -}}
{{- range until (sub 32 (regexReplaceAll ".*/" . "" | int) | int) }}{{ $size = mul $size 2 }}{{ end -}}
{{- if mod $number $size }}{{ $found = append $found . }}{{ end -}}
{{- end -}}
{{- end -}}
{{- join ", " $found }}
{{- end }}

{{/* Whether one of some rules names no ports, which means all, or a range of so many that it makes no difference. */}}
{{- define "sextant.opensAllPorts" -}}
{{- $found := false -}}
{{- range . -}}
{{- if not .ports }}{{ $found = true }}{{ end -}}
{{- range .ports }}{{ if or (not .port) (and .endPort (ge (sub (int .endPort) (int .port)) 1000)) }}{{ $found = true }}{{ end }}{{ end -}}
{{- end -}}
{{- if $found }}true{{ end -}}
{{- end }}

{{/* Whether one of some peers of a NetworkPolicy is all addresses (a half of them is as good as all), or all pods of all namespaces. */}}
{{- define "sextant.isWide" -}}
{{- $found := false -}}
{{- range . -}}
{{- with dig "ipBlock" "cidr" "" . -}}
{{- if include "sextant.isWideRange" . }}{{ $found = true }}{{ end -}}
{{- end -}}
{{- if and (not .ipBlock) (hasKey . "namespaceSelector") (not (include "sextant.isNarrow" .namespaceSelector)) (not (include "sextant.isNarrow" .podSelector)) }}{{ $found = true }}{{ end -}}
{{- if not . }}{{ $found = true }}{{ end -}}
{{- end -}}
{{- if $found }}true{{ end -}}
{{- end }}

{{/* Whether a selector chooses: each namespace has a name. */}}
{{- define "sextant.isNarrow" -}}
{{- $selector := default dict . -}}
{{- $found := not (empty $selector.matchLabels) -}}
{{- range $selector.matchExpressions -}}
{{- if or (eq .operator "In") (and (eq .operator "Exists") (ne .key "kubernetes.io/metadata.name")) }}{{ $found = true }}{{ end -}}
{{- end -}}
{{- if $found }}true{{ end -}}
{{- end }}

{{/* The names of variables that hold a secret in plain text: by their name, or since their value is an address with a password. */}}
{{- define "sextant.plainSecrets" -}}
{{- $names := list -}}
{{- range . -}}
{{- $value := toString (default "" .value) -}}
{{- if and $value (or (regexMatch "(?i)(api_?key|password|passwd|passphrase|secret|token|credential|private_?key)" .name) (regexMatch "^[A-Za-z][A-Za-z0-9+.-]*://[^/@]*:[^/@]+@" $value) (regexMatch "^[^/@:]+:[^/@]+@" $value)) }}{{ $names = append $names .name }}{{ end -}}
{{- end -}}
{{- join ", " $names }}
{{- end }}

{{/* Annotations that attach a pod to other networks, or change its network. */}}
{{- define "sextant.networkAnnotations" -}}
{{- $names := list -}}
{{- range $name, $_ := . -}}
{{- if regexMatch "(?i)(cni[./]|cncf\\.io/|networks?$|networking\\.|cilium\\.io/|projectcalico\\.org/|ovn\\.|antrea\\.io/|danm\\.|submariner\\.|hwaddr|ip_?address)" $name }}{{ $names = append $names $name }}{{ end -}}
{{- end -}}
{{- join ", " $names }}
{{- end }}

{{/* Whether a namespace is known for things other than runs: its Secrets are more than runs' keys. */}}
{{- define "sextant.isOthers" -}}
{{- if or (has . (list "default" "argo" "argocd" "cert-manager" "cilium" "external-secrets" "gatekeeper" "gitlab" "grafana" "harbor" "ingress-nginx" "jenkins" "keycloak" "kyverno" "linkerd" "logging" "longhorn" "monitoring" "observability" "olm" "operators" "prometheus" "rook-ceph" "sealed-secrets" "tekton-pipelines" "traefik" "vault" "velero")) (regexMatch "(-system|-operators?)$" .) }}true{{ end -}}
{{- end }}
