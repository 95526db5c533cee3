{{/* What everything of the release is called. */}}
{{- define "meridian.name" -}}
{{- printf "%s" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels that say which pods are meant; they never change. Call with (dict "root" $ "program" "node"). */}}
{{- define "meridian.selector" -}}
app.kubernetes.io/name: meridian
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .program }}
{{- end -}}

{{- define "meridian.labels" -}}
{{ include "meridian.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
meridian/region: {{ .root.Values.region }}
{{- end -}}

{{/* Call with (dict "root" $ "program" "gateway" "tag" $gateway.imageTag). */}}
{{- define "meridian.image" -}}
{{ .root.Values.image.repository }}/meridian-{{ .program }}:{{ .tag | default .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end -}}

{{- define "meridian.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "meridian.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Not two on one machine, nor all in one zone, where that can be had. Call with (dict "root" $ "program" …). */}}
{{- define "meridian.spread" -}}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "meridian.selector" $ | nindent 6 }}
{{- end }}
{{- end -}}

{{- define "meridian.environment" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end -}}

{{/* The nodes of this release as gateways reach them: each by its own name, because gateways choose. */}}
{{- define "meridian.nodes" -}}
{{- $name := include "meridian.name" . -}}
{{- $scheme := ternary "https" "http" (ne .Values.node.linkTlsSecret "") -}}
{{- $nodes := list -}}
{{- range $number := until (int .Values.node.replicas) -}}
{{- $nodes = append $nodes (printf "%s://%s-node-%d.%s-node.%s.svc:9001" $scheme $name $number $name $.Release.Namespace) -}}
{{- end -}}
{{- $nodes | toJson -}}
{{- end -}}
