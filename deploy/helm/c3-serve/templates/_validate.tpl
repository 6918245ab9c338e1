{{/* Refuses values that contradict each other. Each message says what to change. */}}
{{- define "c3-serve.validate" -}}
{{- include "c3-serve.validateSecurity" . -}}
{{- include "c3-serve.validateGateway" . -}}
{{- include "c3-serve.validateCascades" . -}}
{{- $root := . -}}
{{- range (include "c3-serve.pools" . | fromJson).pools -}}
{{- include "c3-serve.validateNode" (dict "root" $root "pool" .) -}}
{{- if .autoscaling.enabled -}}
{{- include "c3-serve.validateAutoscaling" (dict "root" $root "pool" .) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "c3-serve.validateSecurity" -}}
{{- $values := .Values -}}
{{- $plain := eq $values.tls.mode "disabled" -}}
{{- if and $plain $values.access.existingSecret -}}
{{- fail (print "API keys would travel in plain text: set tls.mode to certManager or secrets, "
  "or empty access.existingSecret") -}}
{{- end -}}
{{- if and $plain $values.jwt.issuer -}}
{{- fail "tokens would travel in plain text: set tls.mode to certManager or secrets, or empty jwt.issuer" -}}
{{- end -}}
{{- if and $plain (not $values.insecure) -}}
{{- fail "tls.mode is disabled: set it to certManager or secrets, or accept plain text with insecure=true" -}}
{{- end -}}
{{- $clients := eq $values.tls.clientCertificates "required" -}}
{{- if not (or $values.access.existingSecret $values.jwt.issuer $clients $values.insecure) -}}
{{- fail (print "the gateway authenticates nobody: set access.existingSecret, jwt.issuer or "
  "tls.clientCertificates=required, or accept everyone with insecure=true") -}}
{{- end -}}
{{- if eq $values.tls.mode "secrets" -}}
{{- range $owner := list "gateway" "nodes" -}}
{{- if not (index $values.tls.secrets $owner) -}}
{{- fail (printf "tls.mode is secrets: set tls.secrets.%s to a secret with tls.crt, tls.key and ca.crt" $owner) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if ne (empty $values.jwt.issuer) (empty $values.jwt.audience) -}}
{{- fail "jwt.issuer and jwt.audience need each other: set both or none" -}}
{{- end -}}
{{- range $values.masterKey.sources -}}
{{- if and (hasPrefix "file:/secrets/master-key/" .) (not $values.masterKey.existingSecret) -}}
{{- fail (printf "masterKey.sources has %s: set masterKey.existingSecret to the secret with that key" .) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "c3-serve.validateGateway" -}}
{{- $values := .Values -}}
{{- include "c3-serve.validateGrace" (dict "path" "gateway" "settings" $values.gateway) -}}
{{- $volume := $values.store.volume -}}
{{- if and (not $values.store.url) (eq $volume.accessMode "ReadWriteOnce") (gt (int $values.gateway.replicas) 1) -}}
{{- fail (printf "%d gateways cannot share a ReadWriteOnce volume: %s" (int $values.gateway.replicas)
  "set store.url to an object store, store.volume.accessMode to ReadWriteMany, or gateway.replicas to 1") -}}
{{- end -}}
{{- if and $values.store.url $volume.existingClaim -}}
{{- fail "documents have two places: empty store.url or store.volume.existingClaim" -}}
{{- end -}}
{{- if and $values.redis.url $values.redis.existingSecret -}}
{{- fail "the URL of Redis is given twice: empty redis.url or redis.existingSecret" -}}
{{- end -}}
{{- if and (include "c3-serve.emptyStages" .) (eq $values.gateway.readinessPath "/readyz") -}}
{{- fail (print "all nodes of a stage may end, and /readyz of gateways then fails, so that they answer nobody: "
  "empty gateway.readinessPath") -}}
{{- end -}}
{{- end }}

{{- define "c3-serve.validateGrace" -}}
{{- $wait := add .settings.preStopSeconds .settings.shutdownDelaySeconds .settings.drainTimeoutSeconds -}}
{{- if le (int .settings.terminationGracePeriodSeconds) (int $wait) -}}
{{- fail (printf "%s: calls would be killed while they drain: set terminationGracePeriodSeconds above %d, the sum of %s"
  .path $wait "preStopSeconds, shutdownDelaySeconds and drainTimeoutSeconds") -}}
{{- end -}}
{{- end }}

{{- define "c3-serve.validateCascades" -}}
{{- $values := .Values -}}
{{- $cascades := dict -}}
{{- range $values.cascades -}}
{{- if hasKey $cascades .name -}}
{{- fail (printf "cascades has two entries with the name %s: rename or remove one" .name) -}}
{{- end -}}
{{- $_ := set $cascades .name . -}}
{{- end -}}
{{- $stages := dict -}}
{{- $names := dict -}}
{{- range (include "c3-serve.pools" . | fromJson).pools -}}
{{- if hasKey $names .component -}}
{{- fail (printf "%ss has two pools with the name %s: rename one" .stage .name) -}}
{{- end -}}
{{- $_ := set $names .component true -}}
{{- if not (hasKey $cascades .cascade) -}}
{{- fail (printf "pool %s of %ss has the unknown cascade %s: add it to cascades" .name .stage .cascade) -}}
{{- end -}}
{{- $_ := set $stages (printf "%s/%s" .stage .cascade) .name -}}
{{- end -}}
{{- if not $stages -}}
{{- fail "there are no nodes: add a pool to compressors and one to decoders" -}}
{{- end -}}
{{- range $cascade := keys $cascades | sortAlpha -}}
{{- $compressor := get $stages (printf "compressor/%s" $cascade) -}}
{{- $decoder := get $stages (printf "decoder/%s" $cascade) -}}
{{- if and $decoder (not $compressor) -}}
{{- fail (printf "cascade %s has decoders but no compressors: add a pool to compressors, or remove pool %s of decoders"
  $cascade $decoder) -}}
{{- end -}}
{{- if and $compressor (not $decoder) -}}
{{- fail (printf "cascade %s has compressors but no decoders: add a pool to decoders, or remove pool %s of compressors"
  $cascade $compressor) -}}
{{- end -}}
{{- $model := (get $cascades $cascade).model -}}
{{- if and (eq $model.source "volume") (not $model.claim) -}}
{{- fail (printf "the model of cascade %s is on a volume: set its model.claim" $cascade) -}}
{{- end -}}
{{- if eq $model.source "oci" -}}
{{- $oci := default dict $model.oci -}}
{{- if not (contains "@sha256:" (default "" $oci.reference)) -}}
{{- fail (printf "the model of cascade %s may change between starts: set model.oci.reference to NAME@sha256:DIGEST"
  $cascade) -}}
{{- end -}}
{{- $prints := default dict $oci.fingerprints -}}
{{- if not (and $prints.compressor $prints.decoder) -}}
{{- fail (printf "the model of cascade %s is not checked: set model.oci.fingerprints to those in its cascade.json"
  $cascade) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "c3-serve.validateNode" -}}
{{- $pool := .pool -}}
{{- $path := printf "pool %s of %ss" $pool.name $pool.stage -}}
{{- include "c3-serve.validateGrace" (dict "path" $path "settings" $pool) -}}
{{- if gt (int $pool.gpu.count) 1 -}}
{{- fail (printf "%s: a node uses one GPU: set gpu.count to 1 and replicas to the number of GPUs" $path) -}}
{{- end -}}
{{- $device := default "" $pool.device -}}
{{- if and (eq (int $pool.gpu.count) 0) (hasPrefix "cuda" $device) -}}
{{- fail (printf "%s: device %s needs a GPU: set gpu.count to 1" $path $device) -}}
{{- end -}}
{{- if and (gt (int $pool.gpu.count) 0) (eq $device "cpu") -}}
{{- fail (printf "%s: device cpu leaves the GPU idle: set gpu.count to 0, or empty device" $path) -}}
{{- end -}}
{{- if and (eq (int $pool.gpu.count) 0) (has (default "" $pool.dtype) (list "f16" "bf16")) -}}
{{- fail (printf "%s: dtype %s needs a GPU: set gpu.count to 1, or dtype to auto, int8 or f32" $path $pool.dtype) -}}
{{- end -}}
{{- if and (eq (int $pool.replicas) 0) (not $pool.autoscaling.enabled) -}}
{{- fail (printf "%s: nothing scales it up from 0 replicas: set replicas to 1 or more, or autoscaling.enabled to true"
  $path) -}}
{{- end -}}
{{- end }}

{{- define "c3-serve.validateAutoscaling" -}}
{{- $pool := .pool -}}
{{- $auto := .root.Values.autoscaling -}}
{{- $path := printf "pool %s of %ss" $pool.name $pool.stage -}}
{{- $min := int $pool.autoscaling.minReplicas -}}
{{- $max := int $pool.autoscaling.maxReplicas -}}
{{- if gt $min $max -}}
{{- fail (printf "%s: autoscaling.minReplicas %d exceeds maxReplicas %d: lower it or raise maxReplicas"
  $path $min $max) -}}
{{- end -}}
{{- $fallback := $pool.autoscaling.fallbackReplicas -}}
{{- if not (kindIs "invalid" $fallback) -}}
{{- if or (lt (int $fallback) $min) (gt (int $fallback) $max) -}}
{{- fail (printf "%s: set autoscaling.fallbackReplicas between minReplicas %d and maxReplicas %d" $path $min $max) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $auto.engine "keda") (not $auto.prometheus.serverAddress) -}}
{{- fail (printf "%s: KEDA does not know where the metrics are: set autoscaling.prometheus.serverAddress" $path) -}}
{{- end -}}
{{- if and (eq $auto.engine "hpa") (eq $min 0) -}}
{{- fail (printf "%s: nothing scales it up from 0 replicas: set autoscaling.engine to keda, or minReplicas to 1"
  $path) -}}
{{- end -}}
{{- $wakes := or (gt $min 0) (gt (len $pool.autoscaling.triggers) 0) -}}
{{- range (include "c3-serve.pools" .root | fromJson).pools -}}
{{- if and (eq .stage $pool.stage) (eq .cascade $pool.cascade) (ne .name $pool.name) -}}
{{- if .autoscaling.enabled -}}
{{- fail (printf "pools %s and %s of %ss would both scale for cascade %s: set autoscaling.enabled to false in one"
  $pool.name .name .stage .cascade) -}}
{{- end -}}
{{- $wakes = true -}}
{{- if eq $auto.engine "hpa" -}}
{{- fail (printf "%s: the engine hpa cannot subtract the work of pool %s: set autoscaling.engine to keda"
  $path .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- /* The metrics of a cascade come from its ready nodes. */ -}}
{{- if not $wakes -}}
{{- fail (printf "%s: no metric scales it up from 0 replicas: %s" $path
  "set autoscaling.minReplicas to 1, add a trigger to autoscaling.triggers, or add a fixed pool") -}}
{{- end -}}
{{- end }}
