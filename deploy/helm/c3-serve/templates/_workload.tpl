{{/*
Deployment and PodDisruptionBudget of a server; gateways and pools of both stages use it. Parameters:
root, name (of the Deployment), component (label), role (program), cuda (true for the image for GPUs), settings (gateway
or a pool), replicas (null if an autoscaler sets them), strategy, env (map), secretEnv and envFrom (lists), port,
readinessPath, volumes, mounts, initContainers (lists), labels (map of further labels of pods), dnsConfig.
*/}}
{{- define "c3-serve.workload" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $settings := .settings -}}
{{- $selector := printf "%s\napp.kubernetes.io/component: %s" (include "c3-serve.selectorLabels" $root) .component -}}
{{- $target := ternary (printf "%s-cuda" .role) .role .cuda -}}
{{- $image := printf "c3-serve-%s:%s" $target (default $root.Chart.AppVersion $values.image.tag) -}}
{{- if $values.image.registry }}{{ $image = printf "%s/%s" $values.image.registry $image }}{{ end -}}
{{- /* The kubelet has no client certificate, so that it can only connect if gateways require one. */ -}}
{{- $tcp := and (eq .role "gateway") (ne $values.tls.mode "disabled") (eq $values.tls.clientCertificates "required") -}}
{{- $scheme := ternary "HTTP" "HTTPS" (eq $values.tls.mode "disabled") -}}
{{- $live := ternary "tcpSocket: {port: api}" (printf "httpGet: {path: /livez, port: api, scheme: %s}" $scheme) $tcp -}}
{{- $ready := ternary "tcpSocket: {port: api}"
  (printf "httpGet: {path: %s, port: api, scheme: %s}" .readinessPath $scheme) $tcp -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .name }}
  labels:
    {{- include "c3-serve.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  {{- if not (kindIs "invalid" .replicas) }}
  replicas: {{ int .replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  strategy:
    {{- toYaml (default .strategy $settings.strategy) | nindent 4 }}
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
  template:
    metadata:
      labels:
        {{- /* Without the chart's version, so that a new chart alone restarts nothing. */}}
        {{- $selector | nindent 8 }}
        {{- with merge (dict) .labels $settings.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $settings.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ include "c3-serve.fullname" $root }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- with $values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        runAsGroup: 10001
        # Owner of volumes, so that the program can read secrets with mode 0440.
        fsGroup: 10001
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile: {type: RuntimeDefault}
      # Longer than preStop, shutdown delay and drain together.
      terminationGracePeriodSeconds: {{ int $settings.terminationGracePeriodSeconds }}
      {{- with .dnsConfig }}
      dnsConfig:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- range $field := list "nodeSelector" "tolerations" "affinity" "priorityClassName" "runtimeClassName" }}
      {{- with index $settings $field }}
      {{ $field }}: {{ toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
      {{- $spread := dict "topologySpread" $settings.topologySpread "labels" $selector }}
      {{- with include "c3-serve.topologySpread" $spread | trim }}
      topologySpreadConstraints:
        {{- . | nindent 8 }}
      {{- end }}
      {{- with .initContainers }}
      initContainers:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .role }}
          image: {{ default $image $settings.image | quote }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          # With a path, so that it also runs in the image with all programs.
          command: [/usr/local/bin/{{ .role }}]
          env:
            - name: POD_NAME
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            {{- include "c3-serve.env" (mustMergeOverwrite .env $settings.env) | trim | nindent 12 }}
            {{- with .secretEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- with .envFrom }}
          envFrom:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            - {name: api, containerPort: {{ int .port }}}
            - {name: metrics, containerPort: {{ int $values.metrics.port }}}
          startupProbe:
            {{ $live }}
            periodSeconds: 2
            timeoutSeconds: 2
            failureThreshold: {{ div (add $settings.startupSeconds 1) 2 }}
          livenessProbe:
            {{ $live }}
            periodSeconds: 10
            # A server that computes on all cores answers late; it must not be restarted for that.
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            {{ $ready }}
            periodSeconds: 3
            timeoutSeconds: 2
            failureThreshold: 3
          {{- if $settings.preStopSeconds }}
          lifecycle:
            preStop: {sleep: {seconds: {{ int $settings.preStopSeconds }}}}
          {{- end }}
          resources:
            {{- $gpu := default dict $settings.gpu }}
            {{- $limits := deepCopy (default dict $settings.resources.limits) }}
            {{- if $gpu.count }}{{ $_ := set $limits $gpu.resource (int $gpu.count) }}{{ end }}
            {{- toYaml (merge (dict "limits" $limits) $settings.resources) | nindent 12 }}
          securityContext:
            {{- include "c3-serve.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- with .mounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: 256Mi}
        {{- with .volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  labels:
    {{- include "c3-serve.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  {{- toYaml $settings.podDisruptionBudget | nindent 2 }}
  # A pod that is not ready protects nothing, so that it does not block the drain of its host.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
{{- end }}

{{/* Volume with a secret that only the program's group can read. Parameters: name, secret. */}}
{{- define "c3-serve.secretVolume" -}}
name: {{ .name }}
secret: {secretName: {{ .secret }}, defaultMode: 0440}
{{- end }}
