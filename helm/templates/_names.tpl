{{- /*
Names and labels. Selectors and the labels of pods never contain a version, because a changed label restarts the pod,
and Kubernetes refuses a changed selector.
*/ -}}

{{- define "avr-sts.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 45 | trimSuffix "-" -}}
{{- end -}}

{{- /* 45 characters leave room for suffixes within the 63 characters of a DNS label. */ -}}
{{- define "avr-sts.fullname" -}}
{{- $name := include "avr-sts.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "avr-sts.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{- /* Takes a list of the root and the component. */ -}}
{{- define "avr-sts.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "avr-sts.name" $root | quote }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- /* Name, namespace, labels and annotations of an object other than a pod. Takes a map: `root`, `component`, the
`suffix` of the name or the whole `name`, and if needed `labels` and `annotations`. People's own labels replace those of the chart, except
those by which selectors find pods. */ -}}
{{- define "avr-sts.metadata" -}}
{{- $root := .root -}}
{{- $ours := dict
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "app.kubernetes.io/managed-by" $root.Release.Service
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
-}}
{{- $selector := include "avr-sts.selectorLabels" (list $root .component) | fromYaml -}}
name: {{ .name | default (list (include "avr-sts.fullname" $root) .suffix | compact | join "-") }}
namespace: {{ include "avr-sts.namespace" $root }}
labels:
  {{- mergeOverwrite $ours $root.Values.commonLabels (.labels | default dict) $selector | toYaml | nindent 2 }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "avr-sts.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "avr-sts.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- /* The reference of an image. Takes a list of the root, the image's values and the default tag. */ -}}
{{- define "avr-sts.image" -}}
{{- $image := index . 1 -}}
{{- $registry := include "avr-sts.registry" . -}}
{{- $name := list $registry $image.repository | compact | join "/" -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name ($image.tag | default (index . 2)) -}}
{{- end -}}
{{- end -}}

{{- /* The registry of an image, which may be none. Takes a list of the root and the image's values. */ -}}
{{- define "avr-sts.registry" -}}
{{- (dig "imageRegistry" "" ((index . 0).Values.global | default dict)) | default (index . 1).registry | trimSuffix "/" -}}
{{- end -}}

{{- define "avr-sts.imagePullSecrets" -}}
{{- with concat .Values.imagePullSecrets (dig "imagePullSecrets" list (.Values.global | default dict)) -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ kindIs "map" . | ternary (get (kindIs "map" . | ternary . dict) "name") . }}
  {{- end }}
{{- end -}}
{{- end -}}
