//! Overview: which stage is short, rates, latencies, caches and errors, since the console was opened.

import { useEffect, useState } from "preact/hooks";

import { Empty, ErrorNote, Meter, Segments, Stat, useLoad, Waiting } from "../components/basic";
import { Chart, type Series } from "../components/chart";
import { Icon } from "../components/icons";
import { json, type Totals } from "../lib/api";
import * as format from "../lib/format";
import { quantile } from "../lib/metrics";
import { address } from "../lib/router";
import { condition, LATENCIES, sampler, STAGES, type Condition, type Samples, type Stage, type StageName } from "../lib/sampler";
import { session } from "../lib/session";
import { useStore } from "../lib/store";

export function Overview() {
  const samples = useStore(sampler);
  return (
    <>
      <div class="page-head">
        <h1>Overview</h1>
        <Since samples={samples} />
      </div>
      <Verdict stages={samples.stages} />
      <section class="pipeline" aria-label="Stages">
        {STAGES.map((name) => <StageCard key={name} name={name} stage={samples.stages?.[name] ?? null} />)}
      </section>
      {samples.metrics === "forbidden" ? <NoMetrics /> : <Live samples={samples} />}
      {session.may("read") && <Store />}
    </>
  );
}

function Since({ samples }: { samples: Samples }) {
  const first = samples.points[0];
  const text = first ? `Live since ${new Date(first.time * 1000).toLocaleTimeString()}` : "Waiting for the first sample";
  return <p class="muted live">{first && <span class="dot good" aria-hidden="true" />}{text}</p>;
}

const CONDITIONS: Record<Condition, { label: string; tone: string }> = {
  none: { label: "no node", tone: "bad" },
  down: { label: "not ready", tone: "bad" },
  short: { label: "short", tone: "bad" },
  busy: { label: "busy", tone: "warn" },
  working: { label: "working", tone: "good" },
  idle: { label: "idle", tone: "idle" },
};

/** One sentence: which stage holds the others up. */
function Verdict({ stages }: { stages: Samples["stages"] }) {
  if (!stages) return <p class="verdict idle">Reading the state of the stages…</p>;
  const states = STAGES.map((name) => ({ name, stage: stages[name], condition: condition(stages[name]) }));
  const missing = states.filter(({ stage }) => stage.ready === 0);
  const short = states.filter(({ condition }) => condition === "short");
  const busy = states.filter(({ condition }) => condition === "busy");
  if (missing.length > 0) {
    const effect = missing.some(({ name }) => name === "decoder") ? "Reads and writes wait." : "Writes wait, reads go on.";
    return <p class="verdict bad"><Icon name="alert" /><span><b>No ready {missing.map(({ name }) => name).join(" and no ready ")} node.</b> {effect}</span></p>;
  }
  if (short.length > 0) {
    const worst = short.reduce((a, b) => (b.stage.backlogSeconds > a.stage.backlogSeconds ? b : a));
    return <p class="verdict bad"><Icon name="alert" /><span><b>The {worst.name} stage is short:</b> {format.seconds(worst.stage.backlogSeconds / worst.stage.ready)} of work wait for each node. Add {worst.name} nodes.</span></p>;
  }
  if (busy.length > 0) {
    return <p class="verdict warn"><Icon name="alert" /><span><b>The {busy.map(({ name }) => name).join(" and the ")} stage is busy</b> and keeps up so far.</span></p>;
  }
  return <p class="verdict good"><Icon name="check" /><span><b>Both stages keep up.</b> No stage has a backlog.</span></p>;
}

const ROLES: Record<StageName, string> = {
  compressor: "turns texts into latents",
  decoder: "verifies writes, restores texts",
};

function StageCard({ name, stage }: { name: StageName; stage: Stage | null }) {
  const state = stage ? CONDITIONS[condition(stage)] : { label: "…", tone: "idle" };
  const busy = Math.round((stage?.busy ?? 0) * 100);
  return (
    <article class={`panel stage ${name}`}>
      <header>
        <h2>{name === "compressor" ? "Compressor" : "Decoder"}</h2>
        <p class="muted">{ROLES[name]}</p>
        <span class={`badge ${state.tone}`}>{state.label}</span>
      </header>
      <div class="busy">
        <p><b>{busy}</b> % busy</p>
        <Meter share={stage?.busy ?? 0} label={`Busy share of the ${name} stage`} />
      </div>
      <dl class="stats">
        <Stat label="Ready nodes" value={stage ? `${stage.ready} of ${stage.nodes}` : "–"} tone={stage && stage.ready < stage.nodes ? "warn" : undefined} />
        <Stat label="Queue" value={stage ? `${format.short(stage.queuedTokens)} tok` : "–"} />
        <Stat label="Backlog" value={stage ? format.seconds(stage.backlogSeconds) : "–"} tone={stage && condition(stage) === "short" ? "bad" : undefined} />
        <Stat label="Speed" value={format.rate(stage?.tokensPerSecond ?? null)} />
      </dl>
    </article>
  );
}

function NoMetrics() {
  return (
    <div class="note">
      <Icon name="shield" />
      <p>
        Rates, latencies, caches and errors come from <code>/metrics</code>, which needs a key with the scope{" "}
        <code>admin</code>. The state of the stages and the totals need none.
      </p>
    </div>
  );
}

function Live({ samples }: { samples: Samples }) {
  const [latency, setLatency] = useState<(typeof LATENCIES)[number]["name"]>("write");
  const times = samples.points.map(({ time }) => time);
  const series = (label: string, color: string, name: string, dashed = false): Series => ({
    label,
    color,
    dashed,
    values: samples.points.map(({ values }) => values[name] ?? null),
  });
  const rates = samples.hasStageTokens
    ? [
        series("compress", "--compressor", "tokens:compress"),
        series("verify", "--decoder", "tokens:verify", true),
        series("decode", "--decoder", "tokens:decode"),
      ]
    : [series("written", "--compressor", "tokens:in"), series("read", "--decoder", "tokens:out")];
  return (
    <>
      <section class="charts" aria-label="Rates">
        <div class="panel"><Chart title="Tokens a second" times={times} series={rates} format={format.short} top={10} /></div>
        <div class="panel">
          <Chart
            title="Busy share"
            times={times}
            series={[series("compressor", "--compressor", "busy:compressor"), series("decoder", "--decoder", "busy:decoder")]}
            format={(value) => format.percent(value)}
          />
        </div>
        <div class="panel">
          <Chart
            title="Backlog"
            times={times}
            series={[series("compressor", "--compressor", "backlog:compressor"), series("decoder", "--decoder", "backlog:decoder")]}
            format={format.seconds}
          />
        </div>
        <div class="panel">
          <Chart
            title="Latency"
            times={times}
            series={[
              series("p50", "--good", `p50:${latency}`),
              series("p95", "--warn", `p95:${latency}`),
              series("p99", "--bad", `p99:${latency}`),
            ]}
            format={format.seconds}
            top={0.01}
          >
            <Segments label="Calls whose latency is shown" value={latency} options={LATENCIES} onChange={setLatency} />
          </Chart>
        </div>
      </section>
      <section class="triple">
        <Latencies samples={samples} />
        <Caches samples={samples} />
        <Errors samples={samples} />
      </section>
    </>
  );
}

function Latencies({ samples }: { samples: Samples }) {
  const rate = (name: string) => samples.points.at(-1)?.values[name] ?? 0;
  return (
    <div class="panel">
      <h2>Calls</h2>
      <table class="plain">
        <caption class="sr-only">Calls since the console was opened</caption>
        <thead>
          <tr><th scope="col">Kind</th><th scope="col">Now</th><th scope="col">p50</th><th scope="col">p95</th><th scope="col">p99</th></tr>
        </thead>
        <tbody>
          {LATENCIES.map(({ name, label }) => {
            const buckets = sampler.buckets(name);
            return (
              <tr key={name}>
                <th scope="row">{label}</th>
                <td>{name === "first" ? "" : `${format.short(rate(`calls:${name}`))}/s`}</td>
                {[0.5, 0.95, 0.99].map((share) => <td key={share}>{format.seconds(quantile(share, buckets))}</td>)}
              </tr>
            );
          })}
        </tbody>
      </table>
      <p class="hint">{format.plural(samples.totals.get("calls") ?? 0, "call")} since the console was opened.</p>
    </div>
  );
}

const TIERS = [
  { name: "memory", label: "Memory" },
  { name: "redis", label: "Redis" },
  { name: "store", label: "Store" },
];

function Caches({ samples }: { samples: Samples }) {
  const total = (tier: string, outcome: string) => samples.totals.get(`cache:${tier}:${outcome}`) ?? 0;
  const reused = samples.totals.get("shards:reused") ?? 0;
  const compressed = samples.totals.get("shards:compressed") ?? 0;
  return (
    <div class="panel">
      <h2>Cache hits by tier</h2>
      <ul class="bars">
        {TIERS.map(({ name, label }) => {
          const hits = total(name, "hit");
          const lookups = hits + total(name, "miss") + total(name, "failed");
          const share = lookups === 0 ? null : hits / lookups;
          return (
            <li key={name}>
              <span>{label}</span>
              <Meter share={share ?? 0} label={`Hit rate of ${label}`} />
              <span class="number">{lookups === 0 ? "no lookups" : `${format.percent(share)} of ${format.count(lookups)}`}</span>
            </li>
          );
        })}
      </ul>
      <p class="hint">
        {format.plural(reused + compressed, "shard")} written, {format.count(reused)} of them reused.
      </p>
    </div>
  );
}

function Errors({ samples }: { samples: Samples }) {
  const errors = [...samples.totals].filter(([name, value]) => name.startsWith("error:") && value > 0);
  errors.sort((a, b) => b[1] - a[1]);
  const retries = [...samples.totals].filter(([name]) => name.startsWith("retry:")).reduce((sum, [, value]) => sum + value, 0);
  return (
    <div class="panel">
      <h2>Errors by kind</h2>
      {errors.length === 0 ? (
        <p class="quiet"><Icon name="check" /> No failed call since the console was opened.</p>
      ) : (
        <table class="plain">
          <caption class="sr-only">Failed calls since the console was opened</caption>
          <tbody>
            {errors.map(([name, value]) => (
              <tr key={name}><th scope="row"><code>{name.slice(6)}</code></th><td>{format.count(value)}</td></tr>
            ))}
          </tbody>
        </table>
      )}
      <p class="hint">{format.plural(retries, "retry", "retries")} of calls on nodes.</p>
    </div>
  );
}

/** Interval of totals, which are slow in a large store. */
const TOTALS_INTERVAL_MS = 30_000;

function Store() {
  const totals = useLoad((signal) => json<Totals>("/v1/totals", { signal }), []);
  useEffect(() => {
    const timer = setInterval(totals.reload, TOTALS_INTERVAL_MS);
    return () => clearInterval(timer);
  }, []);
  const value = totals.value;
  return (
    <section class="panel">
      <div class="panel-head">
        <h2>Store</h2>
        <a href={address("/documents")}>All documents</a>
      </div>
      {totals.error !== null && !value ? <ErrorNote error={totals.error} retry={totals.reload} /> : null}
      {!value && totals.error === null ? <Waiting label="Reading the totals" lines={2} /> : null}
      {value && value.documents === 0 ? (
        <Empty title="No documents yet">
          {session.may("write") && <p><a href={address("/try")}>Store a first text and watch how it is done</a></p>}
        </Empty>
      ) : null}
      {value && value.documents > 0 ? (
        <dl class="stats wide">
          <Stat label="Documents" value={format.count(value.documents)} />
          <Stat label="Text" value={format.bytes(value.bytes)} hint={`${format.short(value.tokens)} tokens`} />
          <Stat label="Latents" value={format.count(value.latents)} hint={`${(value.tokens / Math.max(1, value.latents)).toFixed(1)} tokens each`} />
          <Stat label="Windows" value={format.count(value.windows)} />
          <Stat label="Stored" value={format.bytes(value.stored_bytes)} />
        </dl>
      ) : null}
    </section>
  );
}
