//! Reads Prometheus' text format, as `GET /metrics` returns it.

export interface Sample {
  labels: Record<string, string>;
  value: number;
}

export type Metrics = Map<string, Sample[]>;

/** Parses the samples whose name begins with one of the prefixes. Lines of another form are skipped. */
export function parseMetrics(text: string, prefixes: string[]): Metrics {
  const metrics: Metrics = new Map();
  for (const line of text.split("\n")) {
    if (!prefixes.some((prefix) => line.startsWith(prefix))) continue;
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!found) continue;
    const [, name, labels, value] = found as unknown as [string, string, string | undefined, string];
    const samples = metrics.get(name) ?? [];
    samples.push({ labels: parseLabels(labels ?? ""), value: value === "+Inf" ? Infinity : Number(value) });
    metrics.set(name, samples);
  }
  return metrics;
}

function parseLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const [, name, value] of text.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
    labels[name!] = value!.includes("\\") ? value!.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c)) : value!;
  }
  return labels;
}

/** Increases of counters since the first observation. A counter that falls has begun again at zero. */
export class Counters {
  private readonly last = new Map<string, number>();
  private isFirst = true;
  readonly totals = new Map<string, number>();

  /** Adds an observation of all counters. A counter that appears later than the first one began at zero. */
  observe(values: Map<string, number>): void {
    for (const [name, value] of values) {
      const before = this.last.get(name) ?? (this.isFirst ? value : 0);
      const increase = value >= before ? value - before : value;
      this.totals.set(name, (this.totals.get(name) ?? 0) + increase);
      this.last.set(name, value);
    }
    this.isFirst = false;
  }
}

/** Buckets of a histogram: counts of observations up to a bound. */
export type Buckets = { bound: number; count: number }[];

/** Estimates a quantile as Prometheus' `histogram_quantile` does. Null if there are no observations. */
export function quantile(share: number, buckets: Buckets): number | null {
  const total = buckets.at(-1)?.count ?? 0;
  if (total === 0) return null;
  const rank = share * total;
  let below = { bound: 0, count: 0 };
  for (const bucket of buckets) {
    if (bucket.count >= rank) {
      if (!Number.isFinite(bucket.bound)) return below.bound;
      const inside = bucket.count - below.count;
      return below.bound + (bucket.bound - below.bound) * (inside === 0 ? 1 : (rank - below.count) / inside);
    }
    below = bucket;
  }
  return below.bound;
}
