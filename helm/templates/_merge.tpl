{{- /*
Deep merge of people's fields over those of the chart, because no schema of a chart can list all fields of Kubernetes:

- Maps are merged key by key; null removes a field.
- Lists whose entries have names are merged entry by entry: containers, volumes, variables, ports. Mounts are found by
  their path. New entries follow.
- All else is replaced.

Each template returns JSON, and takes a list of the base and of what goes over it. The result is within a map with the
key `value`, because fromJson needs a map.
*/ -}}
{{- define "avr-sts.merge" -}}
{{- $base := index . 0 -}}
{{- $over := index . 1 -}}
{{- $merged := $over -}}
{{- if and (kindIs "map" $base) (kindIs "map" $over) -}}
{{- $merged = omit $base -}}
{{- range $key, $value := $over -}}
{{- if kindIs "invalid" $value -}}
{{- $merged = omit $merged $key -}}
{{- else -}}
{{- $_ := set $merged $key (include "avr-sts.merge" (list (get $base $key) $value) | fromJson).value -}}
{{- end -}}
{{- end -}}
{{- else if and (kindIs "slice" $base) (kindIs "slice" $over) -}}
{{- range $key := list "name" "mountPath" -}}
{{- if include "avr-sts.allHave" (list (concat $base $over) $key) -}}
{{- $merged = (include "avr-sts.mergeLists" (list $base $over $key) | fromJson).value -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- dict "value" $merged | toJson -}}
{{- end -}}

{{- /* Returns `true` if all entries of a list are maps with a key. Takes a list of both. */ -}}
{{- define "avr-sts.allHave" -}}
{{- $key := index . 1 -}}
{{- $all := true -}}
{{- range index . 0 -}}
{{- if not (and (kindIs "map" .) (hasKey (kindIs "map" . | ternary . dict) $key)) -}}
{{- $all = false -}}
{{- end -}}
{{- end -}}
{{- if $all -}}true{{- end -}}
{{- end -}}

{{- /* Takes a list of both lists and the key by which entries are found. */ -}}
{{- define "avr-sts.mergeLists" -}}
{{- $over := index . 1 -}}
{{- $key := index . 2 -}}
{{- $merged := list -}}
{{- $known := list -}}
{{- range $entry := index . 0 -}}
{{- range $replacement := $over -}}
{{- if eq (get $entry $key) (get $replacement $key) -}}
{{- $entry = (include "avr-sts.merge" (list $entry $replacement) | fromJson).value -}}
{{- end -}}
{{- end -}}
{{- $known = append $known (get $entry $key) -}}
{{- $merged = append $merged $entry -}}
{{- end -}}
{{- range $over -}}
{{- if not (has (get . $key) $known) -}}
{{- $merged = append $merged . -}}
{{- end -}}
{{- end -}}
{{- dict "value" $merged | toJson -}}
{{- end -}}

{{- /* Returns the spec of a role's pods. Takes a list of the root, the role, and the chart's spec as YAML. */ -}}
{{- define "avr-sts.podSpec" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- $values := index $root.Values $role -}}
{{- $spec := index . 2 | fromYaml -}}
{{- with $spec.Error -}}
{{- fail (printf "%s: the chart's own pod is no YAML: %s" $role .) -}}
{{- end -}}
{{- $containers := list (set (omit $values.containerSpec) "name" $role) -}}
{{- $merged := (include "avr-sts.merge" (list $spec (dict "containers" $containers)) | fromJson).value -}}
{{- $_ := set $merged "containers" (concat $merged.containers $values.extraContainers) -}}
{{- with concat $values.extraInitContainers ($merged.initContainers | default list) -}}
{{- $_ := set $merged "initContainers" . -}}
{{- end -}}
{{- (include "avr-sts.merge" (list $merged $values.podSpec) | fromJson).value | toYaml -}}
{{- end -}}
