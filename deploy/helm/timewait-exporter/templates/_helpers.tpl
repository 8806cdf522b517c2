{{- /* What names objects is put in quotes where it is used: a release may be called 123, or true. */}}
{{- define "timewait-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimAll "-." }}
{{- end }}

{{- /* 52 characters, for "-recording" is put behind it. */}}
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

{{- /* Takes the chart's root and labels that only some objects have, which are stronger than the common ones. */}}
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
{{- with .Values.image }}
{{- $repository := ternary .repository (printf "%s/%s" .registry .repository) (empty .registry) }}
{{- if .digest }}
{{- printf "%s@%s" $repository .digest }}
{{- else }}
{{- printf "%s:%s" $repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Nobody's user; for other namespaces uid 0, since a container has no ambient capabilities. */}}
{{- define "timewait-exporter.securityContext" -}}
{{- $id := ternary 0 65534 .Values.podNamespaces.enabled }}
{{- $fixed := dict
    "runAsNonRoot" (not .Values.podNamespaces.enabled)
    "runAsUser" $id
    "runAsGroup" $id
    "seccompProfile" (dict "type" "RuntimeDefault") }}
{{- toYaml (mergeOverwrite $fixed (.Values.securityContext | default dict)) }}
{{- end }}

{{- /* allowPrivilegeEscalation is not set beside SYS_ADMIN: the API counts it as true there whatever is said. */}}
{{- define "timewait-exporter.containerSecurityContext" -}}
{{- $fixed := dict "readOnlyRootFilesystem" true }}
{{- if .Values.podNamespaces.enabled }}
{{- $_ := set $fixed "capabilities" (dict "drop" (list "ALL") "add" (list "SYS_ADMIN" "SYS_PTRACE")) }}
{{- else }}
{{- $_ := set $fixed "capabilities" (dict "drop" (list "ALL")) }}
{{- $_ := set $fixed "allowPrivilegeEscalation" false }}
{{- end }}
{{- toYaml (mergeOverwrite $fixed (.Values.containerSecurityContext | default dict)) }}
{{- end }}

{{- /* Takes a duration as values.schema.json allows it, such as 1m30s. atoi, for int64 reads 010 as eight. */}}
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
{{- $probe := omit .probe "scheme" "httpHeaders" }}
{{- if eq .probe.scheme "TCP" }}
{{- $_ := set $probe "tcpSocket" (dict "port" "metrics") }}
{{- else }}
{{- $request := dict "path" .path "port" "metrics" "scheme" .probe.scheme }}
{{- if .probe.httpHeaders }}
{{- $_ := set $request "httpHeaders" .probe.httpHeaders }}
{{- end }}
{{- $_ := set $probe "httpGet" $request }}
{{- end }}
{{- toYaml $probe }}
{{- end }}
