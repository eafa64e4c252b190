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
  - expression: "variables.unchanged || !has({{ $pod }}.nodeName) && !has({{ $pod }}.priorityClassName) && !has({{ $pod }}.resourceClaims)"
    message: a pod of this node chooses no machine, no priority and no device
  - expression: "variables.unchanged || has({{ $pod }}.securityContext) && has({{ $pod }}.securityContext.seccompProfile) && {{ $pod }}.securityContext.seccompProfile.type == 'RuntimeDefault'{{ range list "sysctls" "windowsOptions" "seLinuxOptions" "appArmorProfile" }} && !has({{ $pod }}.securityContext.{{ . }}){{ end }}"
    message: a pod of this node has seccomp's RuntimeDefault, and sets nothing else of its machine
  - expression: {{ printf "variables.unchanged || variables.initContainers.all(c, c.name == 'receive' && %[1]s) && %[2]s.containers.all(c, c.name == 'algorithm' || c.name in ['return', 'probe'] && %[1]s)" (include "sextant.admission.ownImage" .) $pod | toJson }}
    message: beside the algorithm, a pod of this node has Sextant's own containers of Sextant's own image
  - expression: "variables.unchanged || variables.containers.all(c, has({{ $secure }}) && (!has({{ $secure }}.privileged) || !{{ $secure }}.privileged) && has({{ $secure }}.allowPrivilegeEscalation) && !{{ $secure }}.allowPrivilegeEscalation && (!has({{ $secure }}.procMount) || {{ $secure }}.procMount == 'Default'){{ range list "seccompProfile" "windowsOptions" "seLinuxOptions" "appArmorProfile" }} && !has({{ $secure }}.{{ . }}){{ end }})"
    message: a container of this node is not privileged, and gains no privileges
  - expression: "variables.unchanged || variables.containers.all(c, has({{ $secure }}.capabilities) && has({{ $secure }}.capabilities.drop) && 'ALL' in {{ $secure }}.capabilities.drop && (!has({{ $secure }}.capabilities.add) || {{ $secure }}.capabilities.add.all(each, each == 'DAC_OVERRIDE' && c.name in ['receive', 'return'] || each == 'FOWNER' && c.name == 'return')))"
    message: a container of this node has no capabilities but DAC_OVERRIDE for receive and return, and FOWNER for return
  - expression: "variables.unchanged || variables.containers.all(c, !has(c.ports) && !has(c.lifecycle) && !has(c.livenessProbe) && !has(c.readinessProbe) && !has(c.startupProbe) && !has(c.volumeDevices))"
    message: a container of this node has no ports, probes, hooks or devices
  - expression: {{ printf "variables.unchanged || !has(%[1]s.volumes) || %[1]s.volumes.all(v, %[2]s)" $pod (include "sextant.admission.volumes" .) | toJson }}
    message: a pod of this node has no volumes but those of its configuration
{{- end }}

{{/* Of any version: while a release is upgraded, the earlier node may still make a Job. */}}
{{- define "sextant.admission.ownImage" -}}
(c.image == {{ .Values.image.repository | toJson }} || c.image.startsWith({{ printf "%s:" .Values.image.repository | toJson }}) || c.image.startsWith({{ printf "%s@" .Values.image.repository | toJson }}))
{{- end }}

{{/* Whether a volume `v` is one that the configuration has: what it names, where its kind has a name. */}}
{{- define "sextant.admission.volumes" -}}
{{- $kubernetes := default dict .Values.config.kubernetes -}}
{{- $sources := list -}}
{{- with $kubernetes.tmp }}{{ $sources = append $sources . }}{{ end -}}
{{- range $place := default dict $kubernetes.databases }}{{ with $place }}{{ $sources = append $sources (omit . "path" "egress") }}{{ end }}{{ end -}}
{{- range $database := default list .Values.config.databases }}{{ if hasPrefix "/" (default "" $database.uri) }}{{ $sources = append $sources (dict "hostPath" (dict "path" $database.uri)) }}{{ end }}{{ end -}}
{{- with .Values.config.task_dir }}{{ $sources = append $sources (dict "hostPath" (dict "path" .)) }}{{ end -}}
{{- $names := dict "hostPath" "path" "persistentVolumeClaim" "claimName" "configMap" "name" "secret" "secretName" "csi" "driver" -}}
{{- $allowed := list "has(v.emptyDir)" -}}
{{- range $source := $sources }}{{ range $kind, $of := $source }}{{ if $of -}}
{{- if not (regexMatch "^[A-Za-z]+$" $kind) }}{{ fail (printf "config.kubernetes: %s is no kind of volume." $kind) }}{{ end -}}
{{- if hasKey $names $kind -}}
{{- $name := get $names $kind -}}
{{- $allowed = append $allowed (printf "has(v.%[1]s) && v.%[1]s.%[2]s == %[3]s" $kind $name (get $of $name | toString | toJson)) -}}
{{- else if eq $kind "nfs" -}}
{{- $allowed = append $allowed (printf "has(v.nfs) && v.nfs.server == %s && v.nfs.path == %s" (get $of "server" | toString | toJson) (get $of "path" | toString | toJson)) -}}
{{- else if eq $kind "projected" -}}
{{- $allowed = append $allowed "has(v.projected) && v.projected.sources.all(each, !has(each.serviceAccountToken))" -}}
{{- else if eq $kind "ephemeral" -}}
{{- $allowed = append $allowed "has(v.ephemeral) && !has(v.ephemeral.volumeClaimTemplate.spec.dataSource) && !has(v.ephemeral.volumeClaimTemplate.spec.dataSourceRef) && !has(v.ephemeral.volumeClaimTemplate.spec.volumeName)" -}}
{{- else -}}
{{- $allowed = append $allowed (printf "has(v.%s)" $kind) -}}
{{- end -}}
{{- end }}{{ end }}{{ end -}}
{{- with $kubernetes.scratch -}}
{{- $claim := "v.ephemeral.volumeClaimTemplate.spec" -}}
{{- $class := .storage_class | default "" -}}
{{- $class = ternary (printf "has(%[1]s.storageClassName) && %[1]s.storageClassName == %[2]s" $claim ($class | toJson)) (printf "!has(%s.storageClassName)" $claim) (ne $class "") -}}
{{- $allowed = append $allowed (printf "has(v.ephemeral) && v.name == 'scratch' && %[2]s && !has(%[1]s.dataSource) && !has(%[1]s.dataSourceRef) && !has(%[1]s.volumeName) && !has(%[1]s.selector)" $claim $class) -}}
{{- end -}}
{{- join " || " (uniq $allowed) }}
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
