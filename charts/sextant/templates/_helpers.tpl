{{- define "sextant.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}
{{- end }}

{{- define "sextant.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/name: sextant
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "sextant.selector" -}}
app.kubernetes.io/name: sextant
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "sextant.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ default .Chart.AppVersion $image.tag }}{{ end }}
{{- end }}

{{/* What no other release has: a release's name is its own in its namespace alone. A namespace has no dot, so no two releases have one value;
a digest, where the whole is too long for a label, has none at all. */}}
{{- define "sextant.release" -}}
{{- $whole := printf "%s.%s" .Release.Namespace .Release.Name -}}
{{- if gt (len $whole) 63 }}{{ $whole | sha256sum | trunc 63 }}{{ else }}{{ $whole }}{{ end }}
{{- end }}

{{/* The pods of this release's runs, and of no other's: releases, also of one name, may share the namespace. */}}
{{- define "sextant.runs" -}}
matchLabels:
  app.kubernetes.io/name: sextant
  app.kubernetes.io/component: algorithm
  sextant.vantage6.ai/release: {{ include "sextant.release" . }}
{{- end }}

{{/* The pods of runs that a chart without that label has made: until they are over, they need their way to proxy and node. */}}
{{- define "sextant.earlierRuns" -}}
matchLabels:
  app.kubernetes.io/name: sextant
  app.kubernetes.io/component: algorithm
  app.kubernetes.io/instance: {{ .Release.Name }}
matchExpressions:
  - key: sextant.vantage6.ai/release
    operator: DoesNotExist
{{- end }}

{{/* "true" where such runs are to keep their way. By itself the chart finds out at an upgrade: the configuration that is there is that of
such a chart, or it was found then and Jobs of its are left. */}}
{{- define "sextant.hasEarlierRuns" -}}
{{- if eq .Values.upgrade.earlierRuns "auto" -}}
{{- $label := "sextant.vantage6.ai/release" -}}
{{- $config := lookup "v1" "Secret" .Release.Namespace (printf "%s-node" (include "sextant.fullname" .)) -}}
{{- $found := and $config (not (contains $label (dig "data" "node.yaml" "" $config | b64dec))) -}}
{{- if dig "metadata" "annotations" "sextant.vantage6.ai/earlier-runs" "" $config -}}
{{- range (dig "items" list (lookup "batch/v1" "Job" .Values.tasks.namespace "")) -}}
{{- $labels := dig "metadata" "labels" dict . -}}
{{- if and (eq (dig "app.kubernetes.io/name" "" $labels) "sextant") (eq (dig "app.kubernetes.io/instance" "" $labels) $.Release.Name) (not (hasKey $labels $label)) (not (hasKey $labels "vantage6.ai/probe")) (not (dig "metadata" "annotations" "vantage6.ai/reported" "" .)) }}{{ $found = true }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if $found }}true{{ end -}}
{{- else if eq .Values.upgrade.earlierRuns "allow" }}true
{{- end }}
{{- end }}

{{/* The name of this release's objects in the namespace for runs. */}}
{{- define "sextant.runsName" -}}
{{ include "sextant.fullname" . }}-{{ .Release.Namespace }}
{{- end }}

{{- define "sextant.account" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "sextant.fullname" . }}-node
{{- end }}

{{/* An address that the node resolves, for a Service of this release: a name, or the address that it was given. */}}
{{- define "sextant.address" -}}
{{- $ip := default "" .service.clusterIP -}}
{{- if contains ":" $ip }}[{{ $ip }}]{{ else if $ip }}{{ $ip }}{{ else }}{{ include "sextant.fullname" .root }}-{{ .component }}.{{ .root.Release.Namespace }}.svc{{ end }}:{{ .port }}
{{- end }}

{{/* Where node and proxy listen, with this port. */}}
{{- define "sextant.listen" -}}
{{- if contains ":" .root.Values.listenAddress }}[{{ .root.Values.listenAddress }}]{{ else }}{{ .root.Values.listenAddress }}{{ end }}:{{ .port }}
{{- end }}

{{- define "sextant.serverPort" -}}
{{- $url := urlParse .Values.config.server_url -}}
{{- if .Values.config.port }}{{ .Values.config.port }}
{{- else if contains ":" (regexReplaceAll "\\[.*\\]" $url.host "") }}{{ regexFind "[0-9]+$" $url.host }}
{{- else if eq $url.scheme "http" }}80{{ else }}443{{ end }}
{{- end }}

{{/* The ranges of the server's addresses: as given, or the one that server_url has as its host. */}}
{{- define "sextant.serverCidrs" -}}
{{- $host := (urlParse .Values.config.server_url).hostname -}}
{{- if .Values.networkPolicy.server.cidrs }}{{ join "," .Values.networkPolicy.server.cidrs }}
{{- else if regexMatch "^[0-9]+(\\.[0-9]+){3}$" $host }}{{ $host }}/32
{{- else if contains ":" $host }}{{ $host }}/128
{{- end }}
{{- end }}

{{/* A rule's `to` for ranges of addresses; nothing for none, which means everywhere. */}}
{{- define "sextant.to" -}}
{{- with . }}
to:
{{- range . }}
  - ipBlock:
      cidr: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "sextant.ports" -}}
ports:
{{- range . }}
  - protocol: TCP
    port: {{ . }}
{{- end }}
{{- end }}

{{- define "sextant.podSecurity" -}}
{{- $kubernetes := default dict .Values.config.kubernetes -}}
{{- default (default "baseline" $kubernetes.pod_security) .Values.tasks.podSecurity }}
{{- end }}

{{/* What node and proxy have in common: the server, and how to trust and read it. */}}
{{- define "sextant.commonConfig" -}}
{{- $config := pick .Values.config "server_url" "port" "api_path" "logging" -}}
{{- $_ := set $config "health" (dict "listen" (include "sextant.listen" (dict "root" . "port" 8081))) -}}
{{- $encryption := dict "enabled" .Values.encryption.enabled -}}
{{- if .Values.encryption.enabled }}{{ $_ := set $encryption "private_key" "/etc/sextant/private-key/private-key.pem" }}{{ end -}}
{{- with .Values.encryption.organizationId }}{{ $_ := set $encryption "organization_id" (int64 .) }}{{ end -}}
{{- $_ := set $config "encryption" $encryption -}}
{{- if .Values.ca.configMap }}{{ $_ := set $config "ca_certificates" "/etc/sextant/ca/ca.pem" }}{{ end -}}
{{- toYaml $config }}
{{- end }}

{{/* The proxy's configuration. */}}
{{- define "sextant.proxyConfig" -}}
{{- $proxy := dict -}}
{{- with .Values.proxy.tmpSize }}{{ $_ := set $proxy "tmp_size" . }}{{ end -}}
{{- if ne .Values.listenAddress "::" }}{{ $_ := set $proxy "listen" (include "sextant.listen" (dict "root" . "port" 8080)) }}{{ end -}}
{{- toYaml (merge (include "sextant.commonConfig" . | fromYaml) (dict "kubernetes" (dict "proxy" $proxy))) }}
{{- end }}

{{/* The node's configuration: what the values have under config, with what the chart knows. */}}
{{- define "sextant.nodeConfig" -}}
{{- $kubernetes := deepCopy (default dict .Values.config.kubernetes) -}}
{{- $_ := set $kubernetes "namespace" .Values.tasks.namespace -}}
{{- $_ := set $kubernetes "image" (include "sextant.image" .) -}}
{{- with .Values.image.pullPolicy }}{{ $_ := set $kubernetes "image_pull_policy" . }}{{ end -}}
{{- $_ := set $kubernetes "data_port" (dict "listen" (include "sextant.listen" (dict "root" . "port" 7654)) "address" (include "sextant.address" (dict "root" . "service" .Values.node "component" "node" "port" 7654))) -}}
{{- $_ := set $kubernetes "proxy" (dict "address" (include "sextant.address" (dict "root" . "service" .Values.proxy "component" "proxy" "port" 8080))) -}}
{{- $_ := set $kubernetes "labels" (merge (dict "app.kubernetes.io/instance" .Release.Name "sextant.vantage6.ai/release" (include "sextant.release" .)) (default dict $kubernetes.labels)) -}}
{{- $_ := set $kubernetes "annotations" (merge (default dict $kubernetes.annotations) (include "sextant.unmanaged" . | fromYaml)) -}}
{{- $config := merge (include "sextant.commonConfig" . | fromYaml) (dict "api_key_file" "/etc/sextant/api-key/api-key" "kubernetes" $kubernetes) (deepCopy .Values.config) -}}
{{- toYaml $config }}
{{- end }}

{{/* The volumes that node and proxy have in common, and their mounts. */}}
{{- define "sextant.commonVolumes" -}}
{{- if .Values.encryption.enabled }}
- name: private-key
  secret:
    secretName: {{ .Values.encryption.secret }}
    defaultMode: 0440
    items:
      - key: {{ .Values.encryption.key }}
        path: private-key.pem
{{- end }}
{{- if .Values.ca.configMap }}
- name: ca
  configMap:
    name: {{ .Values.ca.configMap }}
    items:
      - key: {{ .Values.ca.key }}
        path: ca.pem
{{- end }}
{{- end }}

{{- define "sextant.commonMounts" -}}
{{- if .Values.encryption.enabled }}
- name: private-key
  mountPath: /etc/sextant/private-key
  readOnly: true
{{- end }}
{{- if .Values.ca.configMap }}
- name: ca
  mountPath: /etc/sextant/ca
  readOnly: true
{{- end }}
{{- end }}

{{/* What the Pod Security Standard "restricted" asks of a pod and of a container, and more. */}}
{{- define "sextant.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "sextant.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "sextant.probes" -}}
livenessProbe:
  httpGet:
    path: /healthz
    port: health
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet:
    path: /readyz
    port: health
  periodSeconds: {{ . }}
  timeoutSeconds: 5
{{- end }}

{{- define "sextant.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* Argo CD treats every object with the label app.kubernetes.io/instance as a part of the Application of that name. Runs have that
label, because earlier charts select their runs by it; but only the node creates and removes runs. */}}
{{- define "sextant.unmanaged" -}}
argocd.argoproj.io/compare-options: IgnoreExtraneous
argocd.argoproj.io/sync-options: Prune=false,Delete=false
{{- end }}

{{/* How strict a Pod Security Standard is. */}}
{{- define "sextant.strictness" -}}
{{- get (dict "privileged" "0" "baseline" "1" "restricted" "2") . -}}
{{- end }}

{{/* Errors that a schema can't detect. */}}
{{- define "sextant.validate" -}}
{{- if eq .Values.tasks.namespace .Release.Namespace }}
{{- fail (printf "tasks.namespace: %s is the release's own namespace, which must not contain runs. Name another one." .Release.Namespace) }}
{{- end }}
{{- if or (hasPrefix "kube-" .Values.tasks.namespace) (regexMatch "^openshift(-|$)" .Values.tasks.namespace) }}
{{- fail (printf "tasks.namespace: %s is a namespace of %s itself. It contains keys of the cluster, which the node could read. Name another one." .Values.tasks.namespace (ternary "Kubernetes" "OpenShift" (hasPrefix "kube-" .Values.tasks.namespace))) }}
{{- end }}
{{- $advice := dict "api_key" "it would be stored in the release's values; create a Secret and name it in apiKey.secret" "api_key_file" "use apiKey.secret" "encryption" "use encryption.enabled and encryption.secret" "ca_certificates" "use ca.configMap" "health" "the chart sets it; use listenAddress" "local" "the chart runs algorithms on Kubernetes" }}
{{- range $key, $instead := $advice }}
{{- if hasKey $.Values.config $key }}{{ fail (printf "config.%s can't be set here: %s." $key $instead) }}{{ end }}
{{- end }}
{{- range $component := list "node" "proxy" }}
{{- range $key := keys (include "sextant.selector" (dict "root" $ "component" $component) | fromYaml) | sortAlpha }}
{{- if hasKey (default dict (index $.Values $component).podLabels) $key }}
{{- fail (printf "%s.podLabels.%s can't be set here: the chart sets it, and knows its pods by it. Take it out." $component $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $component := list "node" "proxy" }}
{{- if hasKey (default dict (index $.Values $component).podAnnotations) "checksum/config" }}
{{- fail (printf "%s.podAnnotations.checksum/config can't be set here: the chart sets it. Take it out." $component) }}
{{- end }}
{{- end }}
{{- $kubernetes := default dict .Values.config.kubernetes }}
{{- $advice := dict "namespace" "use tasks.namespace" "image" "use image.repository and image.tag" "image_pull_policy" "use image.pullPolicy" "kubeconfig" "a pod uses its service account" "context" "a pod uses its service account" "data_port" "the chart sets it; use listenAddress and node.clusterIP" "proxy" "the chart sets it; use listenAddress and proxy.clusterIP" }}
{{- range $key, $instead := $advice }}
{{- if hasKey $kubernetes $key }}{{ fail (printf "config.kubernetes.%s can't be set here: %s." $key $instead) }}{{ end }}
{{- end }}
{{- if ne (include "sextant.podSecurity" .) "privileged" }}
{{- $volumes := default dict $kubernetes.databases }}
{{- range $database := default list .Values.config.databases }}
{{- $place := default dict (get $volumes $database.label) }}
{{- $volume := omit $place "path" "egress" }}
{{- if hasKey $volume "hostPath" }}{{ fail (printf "config.kubernetes.databases.%s: a hostPath is not allowed in a namespace of the level %s. Use another volume, or set tasks.podSecurity: privileged." $database.label (include "sextant.podSecurity" $)) }}{{ end }}
{{- if and (not $volume) (not (contains ":" (default "" $database.uri))) (or (has $database.type (list "csv" "parquet" "excel" "folder")) (hasPrefix "/" (default "" $database.uri))) }}
{{- fail (printf "config.databases: '%s' is a path of the machine, which is not allowed in a namespace of the level %s. Give it a volume in config.kubernetes.databases, or set tasks.podSecurity: privileged." $database.label (include "sextant.podSecurity" $)) }}
{{- end }}
{{- end }}
{{- if and .Values.config.task_dir (not $kubernetes.tmp) }}
{{- fail (printf "config.task_dir is a path of the machine, which is not allowed in a namespace of the level %s. Remove it, name a volume in config.kubernetes.tmp, or set tasks.podSecurity: privileged." (include "sextant.podSecurity" .)) }}
{{- end }}
{{- end }}
{{- end }}
