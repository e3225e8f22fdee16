{{- /* The common parts of the pods of both roles. Each template takes a list of the root and the role. */ -}}

{{- define "avr-sts.podMetadata" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
{{- $annotations := dict "kubectl.kubernetes.io/default-container" (index . 1) -}}
{{- if and (eq (index . 1) "dispatcher") (not $values.safeToEvict) -}}
{{- $_ := set $annotations "cluster-autoscaler.kubernetes.io/safe-to-evict" "false" -}}
{{- $_ := set $annotations "karpenter.sh/do-not-disrupt" "true" -}}
{{- end -}}
labels:
  {{- mergeOverwrite (deepCopy $values.podLabels) (include "avr-sts.selectorLabels" . | fromYaml) | toYaml | nindent 2 }}
annotations:
  {{- mergeOverwrite $annotations $values.podAnnotations | toYaml | nindent 2 }}
{{- end -}}

{{- define "avr-sts.podPlacement" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
serviceAccountName: {{ include "avr-sts.serviceAccountName" $root }}
automountServiceAccountToken: false
{{- /* With service links, a Service named `worker` sets WORKER_PORT=tcp://..., which is a setting of the service. */}}
enableServiceLinks: false
{{- with include "avr-sts.imagePullSecrets" $root }}
{{ . }}
{{- end }}
{{- with $root.Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if kindIs "invalid" $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "avr-sts.selectorLabels" $ | nindent 8 }}
    {{- /* Spread only the pods of one rollout, and ignore the pods of earlier rollouts that still drain. */}}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- else }}
{{- with $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "avr-sts.containerBasics" -}}
{{- $root := index . 0 -}}
image: {{ include "avr-sts.image" (list $root $root.Values.image $root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
{{- with (index $root.Values (index . 1)).envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.containerSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "avr-sts.probes" -}}
{{- $values := index (index . 0).Values (index . 1) -}}
{{- range list "startupProbe" "livenessProbe" "readinessProbe" }}
{{- if get $values . }}
{{ dict . (get $values .) | toYaml }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "avr-sts.volumeMounts" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
{{- /* /tmp is for tools and their packages; the service itself writes no files but recordings. */ -}}
- {name: tmp, mountPath: /tmp}
{{- if $root.Values.clusterTls.secretName }}
- {name: cluster-tls, mountPath: /etc/avr-sts/cluster-tls, readOnly: true}
{{- end }}
{{- if include "avr-sts.secretFiles" . }}
- {name: secrets, mountPath: /etc/avr-sts/secrets, readOnly: true}
{{- end }}
{{- if eq (index . 1) "dispatcher" }}
{{- if $values.tls.secretName }}
- {name: tls, mountPath: /etc/avr-sts/tls, readOnly: true}
{{- end }}
{{- if $values.recordings.existingClaim }}
- {name: recordings, mountPath: /var/lib/avr-sts}
{{- end }}
{{- else }}
{{- if include "avr-sts.hasTools" $root }}
- {name: tools, mountPath: /usr/src/app/tools, readOnly: true}
{{- end }}
{{- if include "avr-sts.hasInstructions" $root }}
- {name: instructions, mountPath: /etc/avr-sts/instructions, readOnly: true}
{{- end }}
{{- end }}
{{- with $values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "avr-sts.volumes" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
- name: tmp
  emptyDir:
    sizeLimit: 256Mi
{{- with $root.Values.clusterTls.secretName }}
- name: cluster-tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with include "avr-sts.secretFiles" . }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- . | trim | nindent 6 }}
{{- end }}
{{- if eq (index . 1) "dispatcher" }}
{{- with $values.tls.secretName }}
- name: tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with $values.recordings.existingClaim }}
- name: recordings
  persistentVolumeClaim:
    claimName: {{ . }}
{{- end }}
{{- else }}
{{- if include "avr-sts.hasTools" $root }}
- name: tools
  configMap:
    name: {{ $root.Values.tools.existingConfigMap | default (printf "%s-tools" (include "avr-sts.fullname" $root)) }}
{{- end }}
{{- if include "avr-sts.hasInstructions" $root }}
- name: instructions
  configMap:
    name: {{ $root.Values.instructions.existingConfigMap | default (printf "%s-instructions" (include "avr-sts.fullname" $root)) }}
{{- end }}
{{- end }}
{{- with $values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
