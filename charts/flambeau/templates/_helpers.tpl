{{/* The name of what is installed: the release's, and the chart's where that does not say it already. */}}
{{- define "flambeau.fullname" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- .Values.fullnameOverride | default $name | trunc 58 | trimSuffix "-" -}}
{{- end }}

{{- define "flambeau.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "flambeau.fullname" .) -}}
{{- end }}

{{/* What tells the operator's pods from all others; a Deployment's selector can never change.
     The first two are also what the models' NetworkPolicies let in. */}}
{{- define "flambeau.selector" -}}
app.kubernetes.io/name: flambeau
app.kubernetes.io/component: operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "flambeau.labels" -}}
{{- include "flambeau.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An image's full name, of (dict "image" … "global" …). */}}
{{- define "flambeau.image" -}}
{{- $registry := .global.imageRegistry | default .image.registry | trimSuffix "/" -}}
{{- $name := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") -}}
{{- ternary (printf "%s@%s" $name .image.digest) (printf "%s:%s" $name .image.tag) (ne .image.digest "") -}}
{{- end }}

{{/* The names alone, with commas between them. */}}
{{- define "flambeau.pullSecrets" -}}
{{- range $at, $secret := .Values.imagePullSecrets -}}
{{- if $at }},{{ end }}{{ $secret.name }}
{{- end -}}
{{- end }}

{{/* What the operator does where ModelDeployments are. Each verb is held to its use by e2e/test_rights.py. */}}
{{- define "flambeau.rules" -}}
- apiGroups: [serving.flambeau.dev]
  resources: [modeldeployments]
  verbs: [get, list, watch]
- apiGroups: [serving.flambeau.dev]
  resources: [modeldeployments/status]
  verbs: [update]
# For ownerReferences that hold back the owner's deletion, where the API server asks for the right to set them.
- apiGroups: [serving.flambeau.dev]
  resources: [modeldeployments/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [configmaps, services, serviceaccounts]
  verbs: [get, list, watch, create, patch{{ if .Values.rbac.adopt }}, delete{{ end }}]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch{{ if .Values.rbac.adopt }}, delete{{ end }}]
# A ModelDeployment can do without these.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}

{{/* What a schema could only refuse without saying what to do. */}}
{{- define "flambeau.check" -}}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) }}
{{- fail "serviceAccount.create is false: name the ServiceAccount to use in serviceAccount.name" }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if hasPrefix "FLAMBEAU_" .name }}
{{- fail (printf "extraEnv: %s is set by the chart: use the value that it stands for (docs/install.md)" .name) }}
{{- end }}
{{- end }}
{{- end }}
