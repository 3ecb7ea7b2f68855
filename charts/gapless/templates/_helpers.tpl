{{- define "gapless.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 54 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for a suffix of 9 characters. */}}
{{- define "gapless.fullname" -}}
{{- $name := include "gapless.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 54 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 54 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Members of a pair have the same name label, and the pair's name as instance: the component tells them apart. */}}
{{- define "gapless.selectorLabels" -}}
app.kubernetes.io/name: {{ include "gapless.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "gapless.labels" -}}
{{ include "gapless.selectorLabels" . }}
app.kubernetes.io/part-of: gapless
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "gapless.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "gapless.fullname" .) -}}
{{- end -}}

{{/* An image by its digest, else by its tag, else by the version of the program. Takes a list: the image, the root. */}}
{{- define "gapless.image" -}}
{{- $image := index . 0 -}}
{{- $root := index . 1 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
