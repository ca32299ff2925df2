{{- define "sluice.name" -}}
{{- printf "%s" .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end }}

{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sluice.labels" -}}
{{ include "sluice.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* A duration as the settings have it (10s, 1m30s, 250ms, or milliseconds as a number), in seconds, rounded up. */}}
{{- define "sluice.seconds" -}}
{{- $text := toString . -}}
{{- if regexMatch "^[0-9]+$" $text -}}
{{- div (add (int64 $text) 999) 1000 -}}
{{- else if regexMatch "^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$" $text -}}
{{- $all := dict "s" 0 -}}
{{- range regexFindAll "[0-9]+(ms|h|m|s)" $text -1 -}}
{{- $n := int64 (regexFind "^[0-9]+" .) -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- if eq $unit "h" -}}{{- $n = mul $n 3600 -}}{{- else if eq $unit "m" -}}{{- $n = mul $n 60 -}}{{- else if eq $unit "ms" -}}{{- $n = div (add $n 999) 1000 -}}{{- end -}}
{{- $_ := set $all "s" (add (get $all "s") $n) -}}
{{- end -}}
{{- get $all "s" -}}
{{- else -}}
{{- fail (printf "config: %q is not a duration: write it like 30s or 1m30s" $text) -}}
{{- end -}}
{{- end }}

{{/* What a stop takes by the settings, and a margin for the process to end. */}}
{{- define "sluice.grace" -}}
{{- $delay := include "sluice.seconds" (.Values.config.shutdownDelay | default "0s") -}}
{{- $drain := include "sluice.seconds" (hasKey .Values.config "drainTimeout" | ternary .Values.config.drainTimeout "5s") -}}
{{- $close := include "sluice.seconds" (.Values.config.closeTimeout | default "5s") -}}
{{- add (int64 .Values.preStopSeconds) (int64 $delay) (int64 $drain) (int64 $close) 10 -}}
{{- end }}
