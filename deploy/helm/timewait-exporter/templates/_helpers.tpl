{{- /* Names are quoted where they are used: a release may be called 123, or true. */}}
{{- define "timewait-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimAll "-." }}
{{- end }}

{{- /* 52 characters, since "-recording" is appended to it. */}}
{{- define "timewait-exporter.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimAll "-." }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimAll "-." }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimAll "-." }}
{{- end }}
{{- end }}
{{- end }}

{{- define "timewait-exporter.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "timewait-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "timewait-exporter.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- /* Takes the chart's root and labels of one object, which win over the common ones. */}}
{{- define "timewait-exporter.labels" -}}
{{- $labels := merge (dict) (.more | default dict) (.root.Values.commonLabels | default dict) }}
{{- with .root }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimAll "-." }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/component: metrics
app.kubernetes.io/part-of: {{ include "timewait-exporter.name" . | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{ include "timewait-exporter.selectorLabels" . }}
{{- end }}
{{- with $labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "timewait-exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "timewait-exporter.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "timewait-exporter.image" -}}
{{- $global := .Values.global | default dict }}
{{- with .Values.image }}
{{- $registry := default .registry $global.imageRegistry }}
{{- $repository := ternary .repository (printf "%s/%s" $registry .repository) (empty $registry) }}
{{- if .digest }}
{{- printf "%s@%s" $repository .digest }}
{{- else }}
{{- printf "%s:%s" $repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Both forms that charts use are accepted: a name, or {name: ...}. */}}
{{- define "timewait-exporter.imagePullSecrets" -}}
{{- $names := list }}
{{- $global := .Values.global | default dict }}
{{- range concat ($global.imagePullSecrets | default list) (.Values.imagePullSecrets | default list) }}
{{- $names = append $names (ternary . (dict "name" .) (kindIs "map" .)) }}
{{- end }}
{{- with uniq $names }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- /* Merges a security context over the chart's own. null removes a field. */}}
{{- define "timewait-exporter.merged" -}}
{{- $merged := mergeOverwrite .own (.given | default dict) }}
{{- range $name, $value := .given | default dict }}
{{- if kindIs "invalid" $value }}
{{- $_ := unset $merged $name }}
{{- end }}
{{- end }}
{{- toYaml $merged }}
{{- end }}

{{- /* uid 65534; for other namespaces and perf events uid 0, since a container has no ambient capabilities. OpenShift chooses the uid from
       the project's range where the SCC says so, and rejects any other. */}}
{{- define "timewait-exporter.securityContext" -}}
{{- $root := or .Values.podNamespaces.enabled .Values.connectFailures.enabled }}
{{- $id := ternary 0 65534 $root }}
{{- $own := dict "runAsNonRoot" (not $root) "seccompProfile" (dict "type" "RuntimeDefault") }}
{{- if or $root (not .Values.openshift.enabled) }}
{{- $_ := set $own "runAsUser" $id }}
{{- $_ := set $own "runAsGroup" $id }}
{{- end }}
{{- include "timewait-exporter.merged" (dict "own" $own "given" .Values.securityContext) }}
{{- end }}

{{- define "timewait-exporter.capabilities" -}}
{{- $added := ternary (list "SYS_ADMIN" "SYS_PTRACE") list .Values.podNamespaces.enabled }}
{{- concat $added (ternary (list "PERFMON") list .Values.connectFailures.enabled) | toJson }}
{{- end }}

{{- /* allowPrivilegeEscalation is not set with SYS_ADMIN: the API treats it as true there in any case. */}}
{{- define "timewait-exporter.containerSecurityContext" -}}
{{- $own := dict "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) }}
{{- with include "timewait-exporter.capabilities" . | fromJsonArray }}
{{- $_ := set $own.capabilities "add" . }}
{{- end }}
{{- if not .Values.podNamespaces.enabled }}
{{- $_ := set $own "allowPrivilegeEscalation" false }}
{{- end }}
{{- include "timewait-exporter.merged" (dict "own" $own "given" .Values.containerSecurityContext) }}
{{- end }}

{{- /* Takes a duration that values.schema.json allows, such as 1m30s. atoi, since int64 reads 010 as eight. */}}
{{- define "timewait-exporter.milliseconds" -}}
{{- $sum := 0 }}
{{- range regexFindAll "[0-9]+(ms|s|m|h)" . -1 }}
{{- $unit := get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) (regexFind "[a-z]+" .) }}
{{- $sum = add $sum (mul (regexFind "[0-9]+" . | atoi) $unit) }}
{{- end }}
{{- $sum }}
{{- end }}

{{- /* Takes a probe's values and its path. */}}
{{- define "timewait-exporter.probe" -}}
{{- $probe := omit .probe "scheme" "httpHeaders" "host" }}
{{- $target := dict "port" "metrics" }}
{{- with .probe.host }}
{{- $_ := set $target "host" . }}
{{- end }}
{{- if eq .probe.scheme "TCP" }}
{{- $_ := set $probe "tcpSocket" $target }}
{{- else }}
{{- $request := merge (dict "path" .path "scheme" .probe.scheme) $target }}
{{- if .probe.httpHeaders }}
{{- $_ := set $request "httpHeaders" .probe.httpHeaders }}
{{- end }}
{{- $_ := set $probe "httpGet" $request }}
{{- end }}
{{- toYaml $probe }}
{{- end }}

{{- /* Takes a rule file's text and prometheusRule's values. Only what was asked for changes; the text is parsed, and so
       loses its comments, only to drop alerts or to add labels and annotations. The thresholds are the comparisons
       with 0.75 and 0.9. */}}
{{- define "timewait-exporter.rules" -}}
{{- $rules := .rules }}
{{- $text := .text }}
{{- range $default, $value := dict "0.75" $rules.thresholds.warning "0.9" $rules.thresholds.critical }}
{{- if ne $default (toString $value) }}
{{- $text = regexReplaceAll (printf "([<>]=? )%s\\b" (replace "." "\\." $default)) $text (printf "${1}threshold-%s" $default) }}
{{- end }}
{{- end }}
{{- $text = $text | replace "threshold-0.75" (toString $rules.thresholds.warning) | replace "threshold-0.9" (toString $rules.thresholds.critical) }}
{{- with $rules.runbookBase }}
{{- $text = regexReplaceAllLiteral "runbook_url: [^#\\n]+#" $text (printf "runbook_url: %s#" .) }}
{{- end }}
{{- if or $rules.disabledAlerts $rules.additionalRuleLabels $rules.additionalRuleAnnotations }}
{{- $document := fromYaml $text }}
{{- $groups := list }}
{{- range $group := $document.groups }}
{{- $kept := list }}
{{- range $rule := $group.rules }}
{{- if not (has $rule.alert $rules.disabledAlerts) }}
{{- if $rule.alert }}
{{- $_ := set $rule "labels" (mergeOverwrite (dict) ($rule.labels | default dict) $rules.additionalRuleLabels) }}
{{- $_ := set $rule "annotations" (mergeOverwrite (dict) ($rule.annotations | default dict) $rules.additionalRuleAnnotations) }}
{{- end }}
{{- $kept = append $kept $rule }}
{{- end }}
{{- end }}
{{- if $kept }}
{{- $groups = append $groups (set $group "rules" $kept) }}
{{- end }}
{{- end }}
{{- $text = toYaml (dict "groups" $groups) }}
{{- end }}
{{- $text }}
{{- end }}

{{- /* The SCC that admits the pods. SCCs have no namespace: the release's namespace is part of the name. */}}
{{- define "timewait-exporter.scc" -}}
{{- if or .Values.podNamespaces.enabled .Values.connectFailures.enabled }}
{{- printf "%s-%s" (include "timewait-exporter.namespace" .) (include "timewait-exporter.fullname" .) | trunc 59 | trimAll "-." }}
{{- else }}hostnetwork-v2
{{- end }}
{{- end }}
