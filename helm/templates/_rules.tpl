{{- /*
The groups of Prometheus' rules. `files/rules` contains placeholders: @scope@ for matchers, @runbook@ for an address,
and the names of thresholds. They are replaced in the parsed rules, because a value may contain quotes.
*/ -}}

{{- define "avr-sts.ruleGroups" -}}
{{- $values := .Values.monitoring.prometheusRule -}}
{{- $matchers := $values.matchers -}}
{{- if kindIs "invalid" $matchers -}}
{{- $matchers = dict "namespace" (include "avr-sts.namespace" .) "app_kubernetes_io_instance" .Release.Name -}}
{{- end -}}
{{- $scope := list -}}
{{- range $label, $value := $matchers -}}
{{- $scope = append $scope (printf "%s=%q" $label $value) -}}
{{- end -}}
{{- $runbook := $values.runbookUrlBase | default (printf "%s/blob/main/docs/runbook.md" .Chart.Home) -}}
{{- $fill := merge (dict "scope" (join ", " $scope) "runbook" $runbook) $values.thresholds -}}
{{- $groups := list -}}
{{- range $path, $_ := .Files.Glob "files/rules/*.yaml" -}}
{{- range $group := ($.Files.Get $path | fromYaml).groups -}}
{{- $rules := list -}}
{{- range $rule := $group.rules -}}
{{- $rule = set $rule "expr" (include "avr-sts.filled" (list $rule.expr $fill)) -}}
{{- if $rule.record -}}
{{- /* Aggregation removes labels, and alerts read recorded series by the same matchers. */ -}}
{{- if $matchers }}{{ $rule = set $rule "labels" $matchers }}{{ end -}}
{{- $rules = append $rules $rule -}}
{{- else -}}
{{- $change := get $values.alerts $rule.alert | default dict -}}
{{- if dig "enabled" true $change -}}
{{- $severity := dict "severity" (dig "severity" $rule.labels.severity $change) -}}
{{- $labels := mergeOverwrite (dict) $rule.labels $values.alertLabels ($change.labels | default dict) $severity -}}
{{- $annotations := dict -}}
{{- range $name, $text := $rule.annotations -}}
{{- $annotations = set $annotations $name (include "avr-sts.filled" (list $text $fill)) -}}
{{- end -}}
{{- $annotations = mergeOverwrite $annotations $values.alertAnnotations ($change.annotations | default dict) -}}
{{- $changed := dict "for" (dig "for" $rule.for $change) "labels" $labels "annotations" $annotations -}}
{{- $rules = append $rules (mergeOverwrite $rule $changed) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $rules }}{{ $groups = append $groups (set $group "rules" $rules) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- with concat $groups $values.additionalGroups }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{- /* A text with values in the place of placeholders. Takes a list of the text and the values by name. */ -}}
{{- define "avr-sts.filled" -}}
{{- $text := index . 0 -}}
{{- range $placeholder := regexFindAll "@\\w+@" $text -1 | uniq -}}
{{- $text = replace $placeholder (get (index $ 1) (trimAll "@" $placeholder) | toString) $text -}}
{{- end -}}
{{- $text -}}
{{- end -}}
