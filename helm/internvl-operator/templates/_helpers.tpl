{{- define "internvl-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "internvl-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "internvl-operator.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Cluster-wide objects carry the namespace too: two releases of one name must not share them. */}}
{{- define "internvl-operator.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "internvl-operator.fullname" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "internvl-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "internvl-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "internvl-operator.selectorLabels" -}}
app.kubernetes.io/name: internvl-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "internvl-operator.labels" -}}
{{ include "internvl-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The name of an image, from a list of the root and the image's values. */}}
{{- define "internvl-operator.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $name := $image.repository -}}
{{- with $root.Values.registry -}}{{- $name = printf "%s/%s" (trimSuffix "/" .) $name -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The router runs from the operator's image unless it is given its own. */}}
{{- define "internvl-operator.routerImage" -}}
{{- $operator := .Values.images.operator -}}
{{- $router := .Values.images.router -}}
{{- if or $router.repository $router.tag $router.digest -}}
{{- include "internvl-operator.image" (list . (dict "repository" (default $operator.repository $router.repository) "tag" (default $operator.tag $router.tag) "digest" $router.digest)) -}}
{{- else -}}
{{- include "internvl-operator.image" (list . $operator) -}}
{{- end -}}
{{- end -}}

{{/* What the operator may do within a namespace: operator/rules.ts NAMESPACED_RULES. */}}
{{- define "internvl-operator.namespacedRules" -}}
- apiGroups: [internvl.dev]
  resources: [internvldeployments]
  verbs: [get, list, watch]
- apiGroups: [internvl.dev]
  resources: [internvldeployments/status]
  verbs: [patch]
- apiGroups: [internvl.dev]
  resources: [internvldeployments/finalizers]
  verbs: [update]
- apiGroups: ['']
  resources: [pods]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: ['']
  resources: [pods/status]
  verbs: [patch]
- apiGroups: ['']
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: ['']
  resources: [services, serviceaccounts]
  verbs: [get, list, watch, create, patch]
- apiGroups: ['']
  resources: [events]
  verbs: [create, patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [resource.k8s.io]
  resources: [resourceclaims]
  verbs: [get, list, watch, create, patch, delete]
{{- end -}}
