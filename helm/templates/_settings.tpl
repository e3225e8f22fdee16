{{- /*
The settings of the service as environment variables. Each role gets only the settings that it reads, so that a changed
voice of the agent does not drain the dispatchers. Tests compare these lists with the code.
*/ -}}

{{- define "avr-sts.readBy" -}}
{{- /* NAME_FILE names the file of the secret NAME, and PRICES_FILE and the like are settings themselves. */ -}}
{{- $name := index . 1 | trimSuffix "_FILE" -}}
{{- $workers := list "TOOLS_DIR" "AVR_TOOLS_DIR" "TOOL_TIMEOUT_SECONDS" "DTMF_TIMEOUT_MS" "SILENCE_HANGUP_SECONDS" "MAX_CALL_SECONDS" "PRICES" "UPSTREAM_RETRY_SECONDS" "SESSION_ROLLOVER_SECONDS" "SESSIONS_PER_SECOND" "WORKER_MAX_CALLS" "SAFETY_IDENTIFIER_SECRET" "TRANSFER_ALLOWED" "HTTPS_PROXY" "HTTP_PROXY" "NO_PROXY" -}}
{{- $dispatchers := list "AMI_URL" "FALLBACK_WAV" "FALLBACK_EXTENSION" "FILLER_WAV" "FILLER_AFTER_MS" "STS_TOKEN" "ALLOWED_ORIGINS" "ADMIN_TOKEN" "PAGE_CALLS" "TLS_CERT" "TLS_KEY" -}}
{{- if or (hasPrefix "OPENAI_" $name) (has $name $workers) -}}
worker
{{- else if or (hasPrefix "CALL_RECORDS_" $name) (hasPrefix "RECORDINGS_" $name) (has $name $dispatchers) -}}
dispatcher
{{- else -}}
both
{{- end -}}
{{- end -}}

{{- /* Returns text unchanged, and every other value as JSON: numbers without an exponent, and lists and maps as the
service reads them. It doubles `$`, because Kubernetes would expand $(NAME) and turn $$ into $. */ -}}
{{- define "avr-sts.value" -}}
{{- $text := ternary . (toJson .) (kindIs "string" .) -}}
{{- $text | replace "$" "$$" | toJson -}}
{{- end -}}

{{- /* Returns the port of a URL, or the default port. Takes a list of the URL and the default. */ -}}
{{- define "avr-sts.portOf" -}}
{{- $host := (urlParse (index . 0)).host -}}
{{- $port := regexFind ":[0-9]+$" $host | trimPrefix ":" -}}
{{- $port | default (index . 1) -}}
{{- end -}}

{{- /* Returns text as a part of a URL. */ -}}
{{- define "avr-sts.quoted" -}}
{{- . | urlquery | replace "+" "%20" -}}
{{- end -}}

{{- define "avr-sts.redisIsBundled" -}}
{{- if not (or .Values.redis.url .Values.redis.host .Values.redis.sentinel.hosts .Values.configFromSecrets.REDIS_URL .Values.config.REDIS_URL_FILE) -}}true{{- end -}}
{{- end -}}

{{- /* The URL of Redis without a password; empty if a Secret has the URL. */ -}}
{{- define "avr-sts.redisUrl" -}}
{{- $redis := .Values.redis -}}
{{- if include "avr-sts.redisIsBundled" . -}}
{{- printf "redis://%s-redis:6379/0" (include "avr-sts.fullname" .) -}}
{{- else if $redis.sentinel.hosts -}}
{{- $user := ternary (printf "%s@" (include "avr-sts.quoted" $redis.username)) "" (ne $redis.username "") -}}
{{- $scheme := ternary "rediss+sentinel" "redis+sentinel" $redis.tls -}}
{{- $hosts := join "," $redis.sentinel.hosts -}}
{{- $of := ternary (printf "?sentinel_username=%s" (include "avr-sts.quoted" $redis.sentinel.username)) "" (ne $redis.sentinel.username "") -}}
{{- printf "%s://%s%s/%s/%d%s" $scheme $user $hosts (include "avr-sts.quoted" $redis.sentinel.service) (int $redis.db) $of -}}
{{- else if $redis.host -}}
{{- $host := ternary (printf "[%s]" $redis.host) $redis.host (contains ":" $redis.host) -}}
{{- $user := ternary (printf "%s@" (include "avr-sts.quoted" $redis.username)) "" (ne $redis.username "") -}}
{{- printf "%s://%s%s:%d/%d" (ternary "rediss" "redis" $redis.tls) $user $host (int $redis.port) (int $redis.db) -}}
{{- else -}}
{{- $redis.url -}}
{{- end -}}
{{- end -}}

{{- define "avr-sts.hasInstructions" -}}
{{- if or .Values.instructions.text .Values.instructions.existingConfigMap -}}true{{- end -}}
{{- end -}}

{{- define "avr-sts.hasTools" -}}
{{- if or .Values.tools.files .Values.tools.existingConfigMap -}}true{{- end -}}
{{- end -}}

{{- /* The sources of the volume with a role's secrets as files. Takes a list of the root and the role. */ -}}
{{- define "avr-sts.secretFiles" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- range $name, $from := $root.Values.configFromSecrets }}
{{- if and (has (include "avr-sts.readBy" (list $root $name)) (list $role "both")) (dig "asFile" false ($from | default dict)) }}
- secret:
    name: {{ $from.name }}
    items:
      - {key: {{ $from.key | quote }}, path: {{ $name }}}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Takes a list of the root and the role. */ -}}
{{- define "avr-sts.env" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- $values := index $root.Values $role -}}
{{- range $name, $value := $root.Values.config }}
{{- if and (has (include "avr-sts.readBy" (list $root $name)) (list $role "both")) (not (kindIs "invalid" $value)) }}
- name: {{ $name }}
  value: {{ include "avr-sts.value" $value }}
{{- end }}
{{- end }}
{{- range $name, $from := $root.Values.configFromSecrets }}
{{- if and (has (include "avr-sts.readBy" (list $root $name)) (list $role "both")) $from }}
{{- if $from.asFile }}
- name: {{ $name }}_FILE
  value: /etc/avr-sts/secrets/{{ $name }}
{{- else }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $from.name }}
      key: {{ $from.key }}
{{- end }}
{{- end }}
{{- end }}
{{- with include "avr-sts.redisUrl" $root }}
- name: REDIS_URL
  value: {{ include "avr-sts.value" . }}
{{- end }}
{{- with $root.Values.redis.existingSecret }}
- name: REDIS_URL_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $root.Values.redis.passwordKey }}
{{- end }}
{{- with $root.Values.redis.sentinel.existingSecret }}
- name: REDIS_SENTINEL_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $root.Values.redis.sentinel.passwordKey }}
{{- end }}
- name: ADMIN_PORT
  value: "9090"
{{- if $root.Values.clusterTls.secretName }}
- name: CLUSTER_TLS_CERT
  value: /etc/avr-sts/cluster-tls/tls.crt
- name: CLUSTER_TLS_KEY
  value: /etc/avr-sts/cluster-tls/tls.key
- name: CLUSTER_TLS_CA
  value: /etc/avr-sts/cluster-tls/ca.crt
{{- end }}
- name: DRAIN_SECONDS
  value: {{ include "avr-sts.value" (toJson $values.drainSeconds) }}
{{- if eq $role "dispatcher" }}
- name: PORT
  value: "6030"
{{- if $values.tls.secretName }}
- name: TLS_CERT
  value: /etc/avr-sts/tls/tls.crt
- name: TLS_KEY
  value: /etc/avr-sts/tls/tls.key
{{- end }}
{{- /* A folder of the service's own in the volume, which the service makes private. */}}
{{- if $values.recordings.existingClaim }}
- name: RECORDINGS_DIR
  value: /var/lib/avr-sts/recordings
{{- end }}
{{- else }}
- name: WORKER_PORT
  value: "7000"
- name: WORKER_ADDRESS
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- if include "avr-sts.hasTools" $root }}
- name: TOOLS_DIR
  value: /usr/src/app/tools
{{- end }}
{{- if include "avr-sts.hasInstructions" $root }}
- name: OPENAI_FILE_INSTRUCTIONS
  value: /etc/avr-sts/instructions/{{ $root.Values.instructions.key }}
{{- end }}
{{- end }}
{{- with $values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
