{{/* Names and labels. A full name has at most 35 characters, so that names with a stage and a pool fit into 63. */}}
{{- define "c3-serve.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 35 | trimSuffix "-" -}}
{{- end }}

{{- define "c3-serve.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "c3-serve.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "c3-serve.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Fully qualified name of a Service. Parameters: root, name. */}}
{{- define "c3-serve.host" -}}
{{ .name }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end }}

{{/* Name of the secret with the certificate of "gateway" or "nodes". Parameters: root, owner. */}}
{{- define "c3-serve.certificate" -}}
{{- if eq .root.Values.tls.mode "secrets" -}}
{{ index .root.Values.tls.secrets .owner }}
{{- else -}}
{{ include "c3-serve.fullname" .root }}-{{ .owner }}-tls
{{- end -}}
{{- end }}

{{/*
All pools as JSON: {"pools": […]}. Each has the settings of `nodes`, replaced by its own, and the fields stage, role,
port, fullname, host and component.
*/}}
{{- define "c3-serve.pools" -}}
{{- $root := . -}}
{{- $pools := list -}}
{{- $stages := list
  (dict "stage" "compressor" "port" 7301 "pools" .Values.compressors)
  (dict "stage" "decoder" "port" 7302 "pools" .Values.decoders) -}}
{{- range $stage := $stages -}}
{{- range $own := .pools -}}
{{- $pool := mustMergeOverwrite (deepCopy $root.Values.nodes) (deepCopy $own) -}}
{{- $fullname := printf "%s-%s-%s" (include "c3-serve.fullname" $root) $stage.stage $own.name -}}
{{- $host := include "c3-serve.host" (dict "root" $root "name" $fullname) -}}
{{- $fields := dict "stage" $stage.stage "role" (printf "%s-node" $stage.stage) "port" $stage.port
  "fullname" $fullname "host" $host "component" (printf "%s-%s" $stage.stage $own.name) -}}
{{- $pools = append $pools (merge $fields $pool) -}}
{{- end -}}
{{- end -}}
{{- dict "pools" $pools | toJson -}}
{{- end }}

{{/* Stages of which all nodes may end, separated by spaces. */}}
{{- define "c3-serve.emptyStages" -}}
{{- $kept := dict "compressor" 0 "decoder" 0 -}}
{{- range (include "c3-serve.pools" . | fromJson).pools -}}
{{- $min := ternary .autoscaling.minReplicas .replicas .autoscaling.enabled -}}
{{- $_ := set $kept .stage (add (index $kept .stage) $min) -}}
{{- end -}}
{{- range $stage, $nodes := $kept }}{{ if eq (int $nodes) 0 }}{{ $stage }} {{ end }}{{ end -}}
{{- end }}

{{/* Path of the gateway's readiness probe. */}}
{{- define "c3-serve.gatewayReadiness" -}}
{{- $path := ternary "/readyz" "/livez" (empty (include "c3-serve.emptyStages" .)) -}}
{{- default $path .Values.gateway.readinessPath -}}
{{- end }}

{{/* Environment variables from a map. Skips empty values. Prints whole numbers without an exponent. */}}
{{- define "c3-serve.env" -}}
{{- range $name, $value := . }}
{{- if kindIs "float64" $value }}
{{- if eq $value (floor $value) }}{{ $value = int64 $value }}{{ end }}
{{- end }}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* Environment of every server, as JSON. Parameters: root, settings, port, clients (demand for certificates). */}}
{{- define "c3-serve.serverEnv" -}}
{{- $values := .root.Values -}}
{{- $env := dict
  "C3_LISTEN" (printf "0.0.0.0:%d" (int .port))
  "C3_METRICS_LISTEN" (printf "0.0.0.0:%d" (int $values.metrics.port))
  "C3_SHUTDOWN_DELAY" (printf "%ds" (int .settings.shutdownDelaySeconds))
  "C3_DRAIN_TIMEOUT" (printf "%ds" (int .settings.drainTimeoutSeconds))
  "C3_LOG" $values.log
  "C3_LOG_FORMAT" "json"
  "OTEL_EXPORTER_OTLP_ENDPOINT" $values.otlpEndpoint -}}
{{- if ne $values.tls.mode "disabled" -}}
{{- $env = merge $env (dict "C3_TLS_CERT" "/tls/tls.crt" "C3_TLS_KEY" "/tls/tls.key" "C3_TLS_CA" "/tls/ca.crt"
  "C3_TLS_CLIENT" .clients) -}}
{{- end -}}
{{- if $values.insecure -}}{{- $env = merge $env (dict "C3_INSECURE" "true") -}}{{- end -}}
{{- if $values.otlpEndpoint -}}
{{- $env = merge $env (dict "OTEL_RESOURCE_ATTRIBUTES"
  (printf "k8s.namespace.name=%s,k8s.pod.name=$(POD_NAME)" .root.Release.Namespace)) -}}
{{- end -}}
{{- toJson $env -}}
{{- end }}

{{/* Security context of each container. */}}
{{- define "c3-serve.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Topology spread of the pods with these labels. Parameters: topologySpread, labels. */}}
{{- define "c3-serve.topologySpread" -}}
{{- $keys := dict "zone" "topology.kubernetes.io/zone" "host" "kubernetes.io/hostname" -}}
{{- $spread := .topologySpread -}}
{{- $labels := .labels -}}
{{- range $topology := list "zone" "host" }}
{{- $action := index $spread $topology }}
{{- if ne $action "disabled" }}
- maxSkew: 1
  topologyKey: {{ index $keys $topology }}
  whenUnsatisfiable: {{ $action }}
  labelSelector:
    matchLabels:
      {{- $labels | nindent 6 }}
  # Counts only pods of the same revision, so that a rolling update ends evenly spread.
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}
{{- end }}
