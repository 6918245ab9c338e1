//! Samples the gateway every two seconds and keeps the history since the console was opened.

import { call, isAborted, json, Problem, type Node } from "./api";
import { connection } from "./connection";
import { Counters, parseMetrics, quantile, type Buckets, type Metrics } from "./metrics";
import { session } from "./session";
import { Store } from "./store";

export const STAGES = ["compressor", "decoder"] as const;
export type StageName = (typeof STAGES)[number];

const INTERVAL_MS = 2000;
/** Maximum points of the history: an hour. */
const POINTS_MAX = 1800;
/** Points over which rates and percentiles are computed: 10 s and 60 s. */
const RATE_POINTS = 5;
const LATENCY_POINTS = 30;

export interface Stage {
  nodes: number;
  ready: number;
  /** Mean busy share of the ready nodes, 0 to 1. */
  busy: number;
  queuedTokens: number;
  runningTokens: number;
  /** Seconds of work of one node: at nodes and waiting in the gateway. */
  backlogSeconds: number;
  oldestSeconds: number | null;
  tokensPerSecond: number | null;
}

/** Rates, percentiles and gauges at a time, by name. A missing or null value is unknown. */
export interface Point {
  time: number;
  values: Record<string, number | null>;
}

export interface Samples {
  /** Null: the key lacks the scope `admin`, which metrics need. */
  metrics: "unknown" | "ok" | "forbidden";
  nodes: Node[] | null;
  stages: Record<StageName, Stage> | null;
  points: Point[];
  /** Increases of counters since the console was opened. */
  totals: Map<string, number>;
  hasStageTokens: boolean;
}

export const LATENCIES = [
  { name: "write", label: "Writes" },
  { name: "read", label: "Reads" },
  { name: "first", label: "First byte" },
  { name: "other", label: "Other calls" },
] as const;

const NAMES = [
  "rpc_server_call_duration_seconds",
  "c3_first_byte_duration_seconds_bucket",
  "c3_cache_lookup_duration_seconds_count",
  "c3_text_",
  "c3_tokens_total",
  "c3_shards_total",
  "c3_corrections_total",
  "c3_retries_total",
  "c3_stage_",
];

const WRITE = /^(PUT|POST) \/v1\/(documents|latents|compress)|Gateway\/(Put|Append|Recode|Compress)/;
const READ = /^GET \/v1\/documents\/\{ref\}\/(text|latents)|\/v1\/decompress|Gateway\/(Get(Text|Latents)|Decompress)/;
/** Calls of this console and of monitoring. */
const IGNORED = /^GET \/(v1\/(nodes|totals)|openapi\.json|docs|console|metrics|readyz|livez)|Gateway\/(Nodes|Totals)$/;

class Sampler extends Store<Samples> {
  private readonly counters = new Counters();
  private readonly history: Map<string, number>[] = [];
  private timer = 0;

  /** Starts sampling, unless it has started. */
  start(): void {
    if (this.timer === 0) {
      this.timer = window.setInterval(() => void this.sample(), INTERVAL_MS);
      void this.sample();
    }
  }

  private async sample(): Promise<void> {
    if (!connection.isUp) return;
    try {
      const [nodes, text] = await Promise.all([json<{ nodes: Node[] }>("/v1/nodes"), this.metricsText()]);
      const metrics = text === null ? null : parseMetrics(text, NAMES);
      this.add(nodes.nodes, metrics);
    } catch (error) {
      // The page says that the gateway is lost, or asks for a key. The next sample tries again.
      if (!isAborted(error) && !(error instanceof Error)) throw error;
    }
  }

  private async metricsText(): Promise<string | null> {
    if (!session.may("admin")) return null;
    try {
      return await (await call("/metrics")).text();
    } catch (error) {
      if (error instanceof Problem && (error.status === 401 || error.status === 403)) return null;
      throw error;
    }
  }

  private add(nodes: Node[], metrics: Metrics | null): void {
    if (metrics) {
      this.counters.observe(counters(metrics));
      this.history.push(new Map(this.counters.totals));
      if (this.history.length > LATENCY_POINTS + 1) this.history.shift();
    }
    const stages = {
      compressor: stage("compressor", nodes, metrics),
      decoder: stage("decoder", nodes, metrics),
    };
    const values: Point["values"] = {};
    for (const name of STAGES) {
      values[`busy:${name}`] = stages[name].ready > 0 ? stages[name].busy : null;
      values[`backlog:${name}`] = stages[name].backlogSeconds;
    }
    if (metrics) Object.assign(values, this.rates(), this.latencies());
    const compress = values["tokens:compress"];
    if (typeof compress === "number") {
      stages.compressor.tokensPerSecond = compress;
      stages.decoder.tokensPerSecond = (values["tokens:verify"] ?? 0) + (values["tokens:decode"] ?? 0);
    }
    this.set({
      metrics: metrics ? "ok" : "forbidden",
      nodes,
      stages,
      points: [...this.value.points, { time: Date.now() / 1000, values }].slice(-POINTS_MAX),
      totals: this.counters.totals,
      hasStageTokens: this.counters.totals.has("tokens:compress"),
    });
  }

  private rates(): Point["values"] {
    const values: Point["values"] = {};
    const before = this.history.at(-1 - RATE_POINTS) ?? this.history[0]!;
    const points = Math.min(RATE_POINTS, this.history.length - 1);
    for (const [name, total] of this.counters.totals) {
      if (name.startsWith("bucket:")) continue;
      values[name] = points === 0 ? 0 : (total - (before.get(name) ?? 0)) / ((points * INTERVAL_MS) / 1000);
    }
    return values;
  }

  private latencies(): Point["values"] {
    const values: Point["values"] = {};
    const before = this.history[0]!;
    for (const { name } of LATENCIES) {
      const buckets = this.buckets(name, before);
      for (const share of [0.5, 0.95, 0.99]) values[`p${share * 100}:${name}`] = quantile(share, buckets);
    }
    return values;
  }

  /** Returns the buckets of a kind of call, with the increases since `before`; since the page was opened if absent. */
  buckets(name: string, before?: Map<string, number>): Buckets {
    const buckets: Buckets = [];
    for (const [key, total] of this.counters.totals) {
      const [kind, group, bound] = key.split(":");
      if (kind !== "bucket" || group !== name) continue;
      buckets.push({ bound: bound === "+Inf" ? Infinity : Number(bound), count: total - (before?.get(key) ?? 0) });
    }
    return buckets.sort((a, b) => a.bound - b.bound);
  }
}

export const sampler = new Sampler({
  metrics: "unknown",
  nodes: null,
  stages: null,
  points: [],
  totals: new Map(),
  hasStageTokens: false,
});

/** Returns the counters that the console shows, by a name of its own. */
function counters(metrics: Metrics): Map<string, number> {
  const values = new Map<string, number>();
  const add = (name: string, value: number) => values.set(name, (values.get(name) ?? 0) + value);
  const each = (name: string, use: (labels: Record<string, string>, value: number) => void) =>
    metrics.get(name)?.forEach(({ labels, value }) => use(labels, value));

  each("rpc_server_call_duration_seconds_count", (labels, value) => {
    const method = labels.rpc_method ?? "";
    if (labels.role !== "gateway" || IGNORED.test(method)) return;
    add("calls", value);
    add(`calls:${group(method)}`, value);
    if (labels.error_type) add(`error:${labels.error_type}`, value);
  });
  each("rpc_server_call_duration_seconds_bucket", (labels, value) => {
    const method = labels.rpc_method ?? "";
    if (labels.role === "gateway" && !IGNORED.test(method)) add(`bucket:${group(method)}:${labels.le}`, value);
  });
  each("c3_first_byte_duration_seconds_bucket", (labels, value) => add(`bucket:first:${labels.le}`, value));
  each("c3_cache_lookup_duration_seconds_count", (labels, value) => add(`cache:${labels.tier}:${labels.outcome}`, value));
  each("c3_tokens_total", (labels, value) => add(`tokens:${labels.operation}`, value));
  each("c3_text_tokens_total", (labels, value) => add(`tokens:${labels.direction}`, value));
  each("c3_text_bytes_total", (labels, value) => add(`bytes:${labels.direction}`, value));
  each("c3_shards_total", (labels, value) => add(`shards:${labels.outcome}`, value));
  each("c3_retries_total", (labels, value) => add(`retry:${labels.reason}`, value));
  each("c3_corrections_total", (labels, value) => labels.role === "gateway" && add("corrections", value));
  return values;
}

function group(method: string): string {
  return WRITE.test(method) ? "write" : READ.test(method) ? "read" : "other";
}

function stage(name: StageName, nodes: Node[], metrics: Metrics | null): Stage {
  const own = nodes.filter((node) => node.stage === name);
  const ready = own.filter((node) => node.state === "ready").flatMap((node) => node.description ?? []);
  const sum = (read: (node: (typeof ready)[number]) => number) => ready.reduce((total, node) => total + read(node), 0);
  const gauge = (metric: string, keep: (labels: Record<string, string>) => boolean = () => true) =>
    metrics
      ?.get(metric)
      ?.filter(({ labels }) => labels.stage === name && labels.role === "gateway" && keep(labels))
      .reduce((total, { value }) => total + Math.max(0, value), 0);
  return {
    nodes: own.length,
    ready: ready.length,
    busy: ready.length === 0 ? 0 : sum((node) => node.busy_share) / ready.length,
    queuedTokens: sum((node) => node.queued_tokens),
    runningTokens: sum((node) => node.running_tokens),
    backlogSeconds:
      gauge("c3_stage_backlog_seconds", ({ queue }) => queue !== "upcoming") ?? sum((node) => node.backlog_seconds),
    oldestSeconds: gauge("c3_stage_oldest_job_age_seconds") ?? null,
    tokensPerSecond: null,
  };
}

/** Condition of a stage, and of the system. */
export type Condition = "none" | "idle" | "working" | "busy" | "short" | "down";

/** Share of the device's time from which a stage counts as busy. */
const BUSY_SHARE = 0.75;
/** Backlog per ready node from which a stage is short, as work comes in faster than it is done. */
const SHORT_SECONDS = 5;

export function condition(stage: Stage): Condition {
  if (stage.ready === 0) return stage.nodes === 0 ? "none" : "down";
  if (stage.backlogSeconds / stage.ready >= SHORT_SECONDS) return "short";
  if (stage.busy >= BUSY_SHARE) return "busy";
  return stage.busy >= 0.05 || stage.runningTokens > 0 ? "working" : "idle";
}
