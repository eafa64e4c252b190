{{/* The rules of admission.yaml, in CEL. */}}

{{/* Whether something (`of`: its metadata) has the label of this release; with `orNone`, or the label of no release at all. */}}
{{- define "sextant.admission.labelled" -}}
{{- $label := "sextant.vantage6.ai/release" | squote -}}
{{- $has := printf "(has(%s.labels) && %s in %s.labels)" .of $label .of -}}
({{ $has }} && {{ .of }}.labels[{{ $label }}] == {{ include "sextant.release" .root | squote }}{{ if .orNone }} || !{{ $has }}{{ end }})
{{- end }}

{{- define "sextant.admission.jobs" -}}
{{- $earlier := include "sextant.hasEarlierRuns" . -}}
{{- $pod := "object.spec.template.spec" -}}
{{- $kubernetes := default dict .Values.config.kubernetes -}}
{{- $runtimeClass := "" -}}
{{- if (default dict .Values.config.algorithm_device_requests).gpu }}{{ $runtimeClass = (default dict $kubernetes.gpu).runtime_class }}{{ end -}}
{{- $secure := "c.securityContext" -}}
variables:
  - name: initContainers
    expression: "has({{ $pod }}.initContainers) ? {{ $pod }}.initContainers : []"
  - name: containers
    expression: {{ $pod }}.containers + variables.initContainers
  # What a pod is made of never changes: so what was right when the Job was made is right.
  - name: unchanged
    expression: oldObject != null && object.spec.template == oldObject.spec.template
validations:
  - expression: {{ include "sextant.admission.labelled" (dict "root" . "of" "object.metadata" "orNone" $earlier) | toJson }}
    message: a Job of this node has the label sextant.vantage6.ai/release of its release
  - expression: {{ printf "oldObject == null || %s" (include "sextant.admission.labelled" (dict "root" . "of" "oldObject.metadata" "orNone" $earlier)) | toJson }}
    message: this Job is not of this node's release
  # By this one an earlier chart knows its runs.
  {{- range $of := list "object.metadata" "object.spec.template.metadata" }}
  - expression: has({{ $of }}.labels) && 'app.kubernetes.io/instance' in {{ $of }}.labels && {{ $of }}.labels['app.kubernetes.io/instance'] == {{ $.Release.Name | squote }}
    message: a Job of this node and its pod have the label app.kubernetes.io/instance of its release
  {{- end }}
  - expression: has(object.spec.template.metadata) && {{ include "sextant.admission.labelled" (dict "root" . "of" "object.spec.template.metadata" "orNone" $earlier) }}
    message: a pod of this node has the label sextant.vantage6.ai/release of its release
  # To components of the cluster, a name can mean another network, a device of the machine, or a container with secrets of its own.
  {{- range $which := list "annotations" "labels" }}
  - expression: {{ printf "variables.unchanged || %s" (include "sextant.admission.names" (dict "root" $ "which" $which "of" "object.spec.template.metadata")) | toJson }}
    message: a pod of this node has no {{ $which }} but those of Sextant and of its configuration
  {{- end }}
  - expression: oldObject == null || variables.unchanged
    message: the pod of a Job that is there does not change
  - expression: "!has(object.metadata.ownerReferences)"
    message: a Job of this node belongs to nothing else
  - expression: "oldObject == null ? !has(object.metadata.finalizers) : (!has(object.metadata.finalizers) || has(oldObject.metadata.finalizers) && object.metadata.finalizers == oldObject.metadata.finalizers)"
    message: a Job of this node holds up no deletion
  - expression: "(!has(object.spec.manualSelector) || !object.spec.manualSelector) && !has(object.spec.managedBy)"
    message: a Job of this node has pods of its own alone, and is the Job controller's
  - expression: "variables.unchanged || (!has({{ $pod }}.serviceAccountName) || {{ $pod }}.serviceAccountName in ['', 'default']) && (!has({{ $pod }}.serviceAccount) || {{ $pod }}.serviceAccount in ['', 'default'])"
    message: a pod of this node has no service account
  - expression: "variables.unchanged || has({{ $pod }}.automountServiceAccountToken) && !{{ $pod }}.automountServiceAccountToken"
    message: a pod of this node has automountServiceAccountToken set to false
  - expression: "variables.unchanged || {{ range $index, $field := list "hostNetwork" "hostPID" "hostIPC" "shareProcessNamespace" }}{{ if $index }} && {{ end }}(!has({{ $pod }}.{{ $field }}) || !{{ $pod }}.{{ $field }}){{ end }}"
    message: a pod of this node shares nothing with its machine, nor its processes with each other
  - expression: "variables.unchanged || {{ range $index, $field := list "nodeName" "priorityClassName" "priority" "preemptionPolicy" "resourceClaims" "affinity" "topologySpreadConstraints" "schedulingGates" "overhead" "os" "subdomain" "setHostnameAsFQDN" "ephemeralContainers" }}{{ if $index }} && {{ end }}!has({{ $pod }}.{{ $field }}){{ end }} && (!has({{ $pod }}.runtimeClassName){{ with $runtimeClass }} || {{ $pod }}.runtimeClassName == {{ . | squote }}{{ end }}) && (!has({{ $pod }}.schedulerName) || {{ $pod }}.schedulerName == 'default-scheduler')"
    message: a pod of this node chooses no machine, scheduler, priority, runtime or device
  # A device may be one of a network, or all of the machine's memory.
  - expression: {{ printf "variables.unchanged || !has(%s.resources) && variables.containers.all(c, %s)" $pod (include "sextant.admission.devices" .) | toJson }}
    message: a pod of this node has no devices but those that its configuration names in resources
  - expression: variables.unchanged || !has(object.spec.template.metadata.finalizers)
    message: a pod of this node holds up no deletion
  - expression: {{ printf "variables.unchanged || %s" (include "sextant.admission.machines" .) | toJson }}
    message: a pod of this node goes to the machines that its configuration names, by nodeSelector and tolerations
  - expression: "variables.unchanged || has({{ $pod }}.securityContext) && has({{ $pod }}.securityContext.seccompProfile) && {{ $pod }}.securityContext.seccompProfile.type == 'RuntimeDefault'{{ range list "sysctls" "windowsOptions" "seLinuxOptions" "appArmorProfile" "supplementalGroups" "supplementalGroupsPolicy" }} && !has({{ $pod }}.securityContext.{{ . }}){{ end }} && (!has({{ $pod }}.securityContext.fsGroup) || has({{ $pod }}.securityContext.runAsUser) && {{ $pod }}.securityContext.fsGroup == {{ $pod }}.securityContext.runAsUser)"
    message: a pod of this node has seccomp's RuntimeDefault, no groups of others, and sets nothing else of its machine
  - expression: {{ printf "variables.unchanged || variables.initContainers.all(c, c.name == 'receive' && %[1]s) && %[2]s.containers.all(c, c.name == 'algorithm' || c.name in ['return', 'probe'] && %[1]s)" (include "sextant.admission.ownImage" .) $pod | toJson }}
    message: beside the algorithm, a pod of this node has Sextant's own containers of Sextant's own image
  # That image can run other programs, too.
  - expression: "variables.unchanged || variables.containers.all(c, !has(c.command) && (c.name == 'algorithm' ? !has(c.args) : has(c.args) && c.args == [c.name]))"
    message: a container of this node has no command; receive, return and probe have their name as the only argument
  - expression: "variables.unchanged || variables.containers.all(c, !has(c.envFrom) && (!has(c.env) || c.env.all(e, (!has(e.valueFrom) || has(e.valueFrom.secretKeyRef) || c.name == 'probe' && has(e.valueFrom.fieldRef)) && (c.name == 'algorithm' || e.name.startsWith('SEXTANT_')))))"
    message: a container of this node has values and entries of Secrets as its environment; receive, return and probe have only variables that begin with SEXTANT_
  # A mount could put another program at the place of Sextant's own; a database is there to be read.
  - expression: "variables.unchanged || variables.containers.all(c, !has(c.volumeMounts) || c.volumeMounts.all(m, !has(m.mountPropagation) && !has(m.subPathExpr) && (c.name == 'algorithm' ? (!m.name.startsWith('database-') || has(m.readOnly) && m.readOnly) : m.mountPath in ['/mnt/data', '/run/sextant/token', '/run/sextant/shared', '/run/sextant/scratch'] && !m.name.startsWith('database-'))))"
    message: a container of this node mounts databases read-only; receive and return mount nothing else but their own folders
  - expression: "variables.unchanged || variables.containers.all(c, has({{ $secure }}) && (!has({{ $secure }}.privileged) || !{{ $secure }}.privileged) && has({{ $secure }}.allowPrivilegeEscalation) && !{{ $secure }}.allowPrivilegeEscalation && (!has({{ $secure }}.procMount) || {{ $secure }}.procMount == 'Default'){{ range list "seccompProfile" "windowsOptions" "seLinuxOptions" "appArmorProfile" }} && !has({{ $secure }}.{{ . }}){{ end }})"
    message: a container of this node is not privileged, and gains no privileges
  - expression: "variables.unchanged || variables.containers.all(c, has({{ $secure }}.capabilities) && has({{ $secure }}.capabilities.drop) && 'ALL' in {{ $secure }}.capabilities.drop && (!has({{ $secure }}.capabilities.add) || {{ $secure }}.capabilities.add.all(each, each == 'DAC_OVERRIDE' && c.name in ['receive', 'return'] || each == 'FOWNER' && c.name in ['receive', 'return'])))"
    message: a container of this node has no capabilities but DAC_OVERRIDE and FOWNER for receive and return
  - expression: "variables.unchanged || variables.containers.all(c, !has(c.ports) && !has(c.lifecycle) && !has(c.livenessProbe) && !has(c.readinessProbe) && !has(c.startupProbe) && !has(c.volumeDevices) && !has(c.restartPolicy) && !has(c.restartPolicyRules) && !has(c.workingDir) && !has(c.stdin) && !has(c.tty) && (!has(c.resources) || !has(c.resources.claims)) && (c.name == 'algorithm' || !has(c.terminationMessagePath) || c.terminationMessagePath == '/dev/termination-log'))"
    message: a container of this node has no ports, probes, hooks, devices, terminal or restarts of its own
  - expression: {{ printf "variables.unchanged || !has(%[1]s.volumes) || %[1]s.volumes.all(v, %[2]s)" $pod (include "sextant.admission.volumes" .) | toJson }}
    message: a pod of this node has no volumes but those of its configuration
{{- end }}

{{/* Whether the labels or annotations (`which`) of something (`of`: its metadata) are Sextant's own, the Job controller's, or as the
configuration has them, in which a number is as its text: those that the chart adds, too. */}}
{{- define "sextant.admission.names" -}}
{{- $configured := dict -}}
{{- if eq .which "annotations" }}{{ $configured = include "sextant.unmanaged" .root | fromYaml }}{{ end -}}
{{- range $name, $value := default dict (get (default dict .root.Values.config.kubernetes) .which) }}{{ $_ := set $configured $name (kindIs "string" $value | ternary $value (toYaml $value)) }}{{ end -}}
{{- $own := list "k.startsWith('vantage6.ai/')" -}}
{{- if eq .which "labels" -}}
{{- $configured = merge (dict "app.kubernetes.io/instance" .root.Release.Name "sextant.vantage6.ai/release" (include "sextant.release" .root)) $configured -}}
{{- $own = concat $own (list "k.startsWith('database.vantage6.ai/')" "k in ['app.kubernetes.io/name', 'app.kubernetes.io/component', 'batch.kubernetes.io/controller-uid', 'batch.kubernetes.io/job-name', 'controller-uid', 'job-name']") -}}
{{- end -}}
{{- range $name, $value := $configured }}{{ $own = append $own (printf "k == %s && %s.%s[k] == %s" (toJson $name) $.of $.which (toJson $value)) }}{{ end -}}
!has({{ .of }}.{{ .which }}) || {{ .of }}.{{ .which }}.all(k, {{ join " || " $own }})
{{- end }}

{{/* Of any version: while a release is upgraded, the earlier node may still make a Job. Not by its beginning alone: a repository of
another registry may begin with this one's name and a colon. */}}
{{- define "sextant.admission.ownImage" -}}
{{- $repository := .Values.image.repository | toJson -}}
c.image.startsWith({{ $repository }}) && c.image.substring(size({{ $repository }})).matches("^(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[a-f0-9]{64})?$")
{{- end }}

{{/* Whether a container `c` asks for no devices but those of the configuration: only they have a domain in their names. */}}
{{- define "sextant.admission.devices" -}}
{{- $kubernetes := default dict .Values.config.kubernetes -}}
{{- $named := list -}}
{{- range $of := list "resources" "helper_resources" }}{{ range $side := list "requests" "limits" -}}
{{- range $name, $_ := default dict (dig $of $side dict $kubernetes) }}{{ if contains "/" $name }}{{ $named = append $named $name }}{{ end }}{{ end -}}
{{- end }}{{ end -}}
{{- if (default dict .Values.config.algorithm_device_requests).gpu }}{{ $named = append $named (default "nvidia.com/gpu" (default dict $kubernetes.gpu).resource) }}{{ end -}}
{{- $sides := list -}}
{{- range $side := list "requests" "limits" -}}
{{- $at := printf "c.resources.%s" $side -}}
{{- $sides = append $sides (printf "(!has(%[1]s) || %[1]s.all(k, !k.contains('/')%[2]s))" $at (empty $named | ternary "" (printf " || k in %s" ($named | uniq | sortAlpha | toJson)))) -}}
{{- end -}}
!has(c.resources) || {{ join " && " $sides }}
{{- end }}

{{/* The machines that the configuration names. */}}
{{- define "sextant.admission.machines" -}}
{{- $kubernetes := default dict .Values.config.kubernetes -}}
{{- $pod := "object.spec.template.spec" -}}
{{- with $kubernetes.node_selector -}}
has({{ $pod }}.nodeSelector) && {{ $pod }}.nodeSelector == {{ toJson . }}
{{- else -}}
!has({{ $pod }}.nodeSelector)
{{- end }} && (!has({{ $pod }}.tolerations) || {{ $pod }}.tolerations.all(t, {{ with $kubernetes.tolerations -}}
{{- $each := list -}}
{{- range $toleration := . }}{{ $each = append $each (printf "(%s)" (include "sextant.admission.fields" (dict "of" "t" "is" $toleration "kind" "toleration"))) }}{{ end -}}
{{- join " || " $each }}
{{- else -}}
false
{{- end }}))
{{- end }}

{{/* Whether an object (`of`) has exactly the fields of a mapping (`is`), which has a place in the table below. Of the other fields of its
kind it has none, or what the API server puts there by default. What is read-only may be more so than the configuration says. */}}
{{- define "sextant.admission.fields" -}}
{{- $of := .of -}}
{{- $fields := get (include "sextant.admission.kinds" . | fromYaml) .kind -}}
{{- $rules := list -}}
{{- range $field := concat (keys $fields) (keys .is) | uniq | sortAlpha -}}
{{- if not (hasKey $fields $field) }}{{ fail (printf "config.kubernetes: %s has no field %s." $.kind $field) }}{{ end -}}
{{- $value := index $.is $field -}}
{{- $at := printf "%s.%s" $of $field -}}
{{- if $value -}}
{{- $rules = append $rules (printf "has(%s) && %s" $at (include "sextant.admission.equal" (dict "of" $at "is" $value "kind" $field))) -}}
{{- else if ne $field "readOnly" -}}
{{- $allowed := list (printf "!has(%s)" $at) -}}
{{- range $default := list (index $fields $field) $value -}}
{{- if not (or (kindIs "invalid" $default) (kindIs "slice" $default) (kindIs "map" $default)) }}{{ $allowed = append $allowed (printf "%s == %s" $at (toJson $default)) }}{{ end -}}
{{- end -}}
{{- $rules = append $rules (printf "(%s)" (join " || " (uniq $allowed))) -}}
{{- end -}}
{{- end -}}
{{- join " && " $rules }}
{{- end }}

{{- define "sextant.admission.equal" -}}
{{- if kindIs "slice" .is -}}
{{- $rules := list (printf "size(%s) == %d" .of (len .is)) -}}
{{- range $index, $value := .is }}{{ $rules = append $rules (include "sextant.admission.equal" (dict "of" (printf "%s[%d]" $.of $index) "is" $value "kind" $.kind)) }}{{ end -}}
{{- join " && " $rules }}
{{- else if and (kindIs "map" .is) (hasKey (include "sextant.admission.kinds" . | fromYaml) .kind) -}}
({{ include "sextant.admission.fields" . }})
{{- else -}}
{{ .of }} == {{ toJson .is }}
{{- end -}}
{{- end }}

{{/* The fields of each kind of volume, and of what is in them, with what the API server puts there by default. */}}
{{- define "sextant.admission.kinds" -}}
awsElasticBlockStore: {volumeID: "", fsType: "", partition: 0, readOnly: false}
azureDisk: {diskName: "", diskURI: "", cachingMode: ReadWrite, fsType: ext4, kind: Shared, readOnly: false}
azureFile: {secretName: "", shareName: "", readOnly: false}
cephfs: {monitors: null, path: "", user: "", secretFile: "", secretRef: null, readOnly: false}
cinder: {volumeID: "", fsType: "", secretRef: null, readOnly: false}
configMap: {name: "", items: null, defaultMode: 420, optional: false}
csi: {driver: "", fsType: "", volumeAttributes: null, nodePublishSecretRef: null, readOnly: false}
downwardAPI: {items: null, defaultMode: 420}
emptyDir: {medium: "", sizeLimit: ""}
fc: {targetWWNs: null, lun: 0, fsType: "", wwids: null, readOnly: false}
flexVolume: {driver: "", fsType: "", secretRef: null, options: null, readOnly: false}
flocker: {datasetName: "", datasetUUID: ""}
gcePersistentDisk: {pdName: "", fsType: "", partition: 0, readOnly: false}
glusterfs: {endpoints: "", path: "", readOnly: false}
hostPath: {path: "", type: ""}
image: {reference: "", pullPolicy: null}
iscsi: {targetPortal: "", iqn: "", lun: 0, iscsiInterface: default, fsType: "", portals: null, chapAuthDiscovery: false, chapAuthSession: false, secretRef: null, initiatorName: null, readOnly: false}
nfs: {server: "", path: "", readOnly: false}
persistentVolumeClaim: {claimName: "", readOnly: false}
photonPersistentDisk: {pdID: "", fsType: ""}
portworxVolume: {volumeID: "", fsType: "", readOnly: false}
projected: {sources: null, defaultMode: 420}
quobyte: {registry: "", volume: "", user: "", group: "", tenant: "", readOnly: false}
rbd: {monitors: null, image: "", fsType: "", pool: rbd, user: admin, keyring: /etc/ceph/keyring, secretRef: null, readOnly: false}
scaleIO: {gateway: "", system: "", secretRef: null, sslEnabled: false, protectionDomain: "", storagePool: "", storageMode: ThinProvisioned, volumeName: "", fsType: xfs, readOnly: false}
secret: {secretName: "", name: "", items: null, defaultMode: 420, optional: false}
storageos: {volumeName: "", volumeNamespace: "", fsType: "", secretRef: null, readOnly: false}
vsphereVolume: {volumePath: "", fsType: "", storagePolicyName: "", storagePolicyID: ""}
clusterTrustBundle: {name: null, signerName: null, labelSelector: null, optional: false, path: ""}
fieldRef: {apiVersion: v1, fieldPath: ""}
items: {key: "", path: "", mode: null, fieldRef: null, resourceFieldRef: null}
nodePublishSecretRef: {name: ""}
resourceFieldRef: {containerName: "", resource: "", divisor: "0"}
secretRef: {name: ""}
sources: {clusterTrustBundle: null, configMap: null, downwardAPI: null, secret: null, serviceAccountToken: null, podCertificate: null}
toleration: {key: "", operator: "", value: "", effect: "", tolerationSeconds: null}
{{- end }}

{{/* Whether a volume `v` is one that the configuration has, under the name that the node gives it: all its fields are compared, since a
driver, a server or a kind alone may lead to the data of others. */}}
{{- define "sextant.admission.volumes" -}}
{{- $kubernetes := default dict .Values.config.kubernetes -}}
{{- $tmp := "v.name == 'tmp'" -}}
{{- $database := "v.name.startsWith('database-')" -}}
{{- $sources := list -}}
{{- with $kubernetes.tmp }}{{ $sources = append $sources (dict "name" $tmp "is" .) }}{{ end -}}
{{- range $place := default dict $kubernetes.databases }}{{ with $place }}{{ $sources = append $sources (dict "name" $database "is" (omit . "path" "egress")) }}{{ end }}{{ end -}}
{{- $allowed := list "has(v.emptyDir)" -}}
{{- range $each := default list .Values.config.databases }}{{ if hasPrefix "/" (default "" $each.uri) }}{{ $allowed = append $allowed (printf "has(v.hostPath) && %s && v.hostPath.path == %s" $database ($each.uri | toString | toJson)) }}{{ end }}{{ end -}}
{{- with .Values.config.task_dir }}{{ $allowed = append $allowed (printf "has(v.hostPath) && %s && v.hostPath.path == %s" $tmp (toString . | toJson)) }}{{ end -}}
{{- $kinds := include "sextant.admission.kinds" . | fromYaml -}}
{{- range $source := $sources }}{{ range $kind, $of := $source.is }}{{ if $of -}}
{{- if eq $kind "ephemeral" -}}
{{- $spec := dig "volumeClaimTemplate" "spec" dict $of -}}
{{- $allowed = append $allowed (printf "has(v.ephemeral) && %s && %s" $source.name (include "sextant.admission.claim" (dict "class" (default "" $spec.storageClassName) "annotations" (dig "volumeClaimTemplate" "metadata" "annotations" dict $of)))) -}}
{{- else if hasKey $kinds $kind -}}
{{- $fields := include "sextant.admission.fields" (dict "of" (printf "v.%s" $kind) "is" $of "kind" $kind) -}}
{{- $token := ternary " && v.projected.sources.all(each, !has(each.serviceAccountToken))" "" (eq $kind "projected") -}}
{{- $allowed = append $allowed (printf "has(v.%s) && %s && %s%s" $kind $source.name $fields $token) -}}
{{- else -}}
{{- fail (printf "config.kubernetes: %s is no kind of volume that this chart knows." $kind) -}}
{{- end -}}
{{- end }}{{ end }}{{ end -}}
{{- with $kubernetes.scratch -}}
{{- $allowed = append $allowed (printf "has(v.ephemeral) && v.name == 'scratch' && %s" (include "sextant.admission.claim" (dict "class" (default "" .storage_class)))) -}}
{{- end -}}
{{- join " || " (uniq $allowed) }}
{{- end }}

{{/* A claim of its own: of the StorageClass that the configuration names, and no copy of another one. An annotation can name another
StorageClass, or a source of data. */}}
{{- define "sextant.admission.claim" -}}
{{- $claim := "v.ephemeral.volumeClaimTemplate.spec" -}}
{{- $metadata := "v.ephemeral.volumeClaimTemplate.metadata" -}}
{{ if .class }}has({{ $claim }}.storageClassName) && {{ $claim }}.storageClassName == {{ toJson .class }}{{ else }}!has({{ $claim }}.storageClassName){{ end }}
{{- range list "dataSource" "dataSourceRef" "volumeName" "selector" }} && !has({{ $claim }}.{{ . }}){{ end }} && (!has({{ $metadata }}) || !has({{ $metadata }}.annotations)
{{- with .annotations }} || {{ $metadata }}.annotations == {{ toJson . }}{{ end }})
{{- end }}

{{/* A Lease that no release has marked yet is that of a node's earlier version: it is taken over with the first renewal. */}}
{{- define "sextant.admission.leases" -}}
validations:
  - expression: {{ include "sextant.admission.labelled" (dict "root" . "of" "object.metadata" "orNone" (include "sextant.hasEarlierRuns" .)) | toJson }}
    message: a Lease of this node has the label sextant.vantage6.ai/release of its release
  - expression: {{ printf "oldObject == null || %s" (include "sextant.admission.labelled" (dict "root" . "of" "oldObject.metadata" "orNone" true)) | toJson }}
    message: this Lease is not of this node's release
  - expression: object.metadata.name.startsWith('sextant-')
    message: the name of a Lease of this node begins with sextant-
{{- end }}

{{/* One of the type service-account-token would be filled with the token of any account of the namespace. */}}
{{- define "sextant.admission.secrets" -}}
validations:
  - expression: {{ include "sextant.admission.labelled" (dict "root" . "of" "object.metadata" "orNone" (include "sextant.hasEarlierRuns" .)) | toJson }}
    message: a Secret of this node has the label sextant.vantage6.ai/release of its release
  - expression: oldObject == null
    message: a Secret that is there does not change
  - expression: "['v6-task-', 'sextant-data-port-', 'sextant-registries-'].exists(each, object.metadata.name.startsWith(each))"
    message: the name of a Secret of this node begins with v6-task-, sextant-data-port- or sextant-registries-
  - expression: "!has(object.type) || object.type in ['', 'Opaque', 'kubernetes.io/dockerconfigjson']"
    message: a Secret of this node holds keys of runs, or passwords of registries
{{- end }}

{{/* Others read in Events why their runs don't start, and pass over those of Sextant. */}}
{{- define "sextant.admission.events" -}}
validations:
  - expression: has(object.reportingComponent) && object.reportingComponent == 'vantage6.ai/sextant' && has(object.source) && has(object.source.component) && object.source.component == 'sextant' && has(object.involvedObject.kind) && object.involvedObject.kind == 'Job'
    message: an Event of this node is of vantage6.ai/sextant, about a Job
{{- end }}
