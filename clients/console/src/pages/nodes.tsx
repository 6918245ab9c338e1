//! Nodes of both stages: state, model, device and load.

import { Copy, Empty, Meter, Stat, Waiting } from "../components/basic";
import { Inert } from "../components/text";
import type { Node, NodeDescription } from "../lib/api";
import * as format from "../lib/format";
import { sampler, STAGES, type StageName } from "../lib/sampler";
import { useStore } from "../lib/store";

const TITLES: Record<StageName, string> = { compressor: "Compressor nodes", decoder: "Decoder nodes" };

/** Rates of the operations of each stage. */
const RATES: Record<StageName, { label: string; rate: (node: NodeDescription) => number | null }[]> = {
  compressor: [{ label: "Compress", rate: (node) => node.compress_tokens_per_second }],
  decoder: [
    { label: "Verify", rate: (node) => node.verify_tokens_per_second },
    { label: "Decode", rate: (node) => node.decode_tokens_per_second },
  ],
};

const STATES: Record<string, { label: string; tone: string; help: string }> = {
  ready: { label: "ready", tone: "good", help: "" },
  unreachable: { label: "unreachable", tone: "bad", help: "The gateway cannot connect to it." },
  not_serving: { label: "not serving", tone: "warn", help: "It answers, but it loads its model or drains." },
  refused: { label: "refused", tone: "bad", help: "It answers, but the gateway does not use it." },
};

export function Nodes() {
  const { nodes } = useStore(sampler);
  return (
    <>
      <div class="page-head">
        <h1>Nodes</h1>
        <p class="muted">Each node runs one of the two stages. The gateway sends work to those that are ready.</p>
      </div>
      {nodes === null ? <Waiting label="Reading the nodes" lines={6} /> : null}
      {nodes !== null && STAGES.map((stage) => {
        const own = nodes.filter((node) => node.stage === stage);
        return (
          <section key={stage} class="node-list">
            <h2 class={stage}>{TITLES[stage]} <span class="muted">{own.length}</span></h2>
            {own.length === 0 ? (
              <Empty title={`The gateway knows no ${stage} node`}>
                <p>Start one with <code>{stage}-node</code> and give its address to the gateway with <code>--{stage}</code>.</p>
              </Empty>
            ) : null}
            {own.map((node) => <NodeCard key={node.address} node={node} />)}
          </section>
        );
      })}
    </>
  );
}

function NodeCard({ node }: { node: Node }) {
  const state = STATES[node.state] ?? { label: node.state, tone: "idle", help: "" };
  const load = node.description;
  const busy = Math.round((load?.busy_share ?? 0) * 100);
  return (
    <article class={`panel node ${node.stage}`}>
      <header>
        <h3><Inert text={node.address} /></h3>
        <span class={`badge ${state.tone}`}>{state.label}</span>
      </header>
      {node.state !== "ready" && (
        <p class="why">{state.help} {node.problem && <>Reason: <Inert text={node.problem} /></>}</p>
      )}
      {load && (
        <>
          <dl class="stats">
            <div class="stat">
              <dt>Busy</dt>
              <dd class="with-meter">{busy} % <Meter share={load.busy_share} label={`Busy share of ${node.address}`} /></dd>
            </div>
            <Stat label="Calls" value={format.count(node.calls_in_flight)} />
            <Stat label="Queue" value={`${format.short(load.queued_tokens)} tok`} />
            <Stat label="Running" value={`${format.short(load.running_tokens)} tok`} />
            <Stat label="Backlog" value={format.seconds(load.backlog_seconds)} />
            {RATES[node.stage].map(({ label, rate }) => <Stat key={label} label={label} value={format.rate(rate(load))} />)}
          </dl>
          <dl class="facts">
            <Fact name="Model" value={load.cascade} />
            <Fact name="Device" value={load.device} />
            {load.accelerator && <Fact name="Accelerator" value={load.accelerator} />}
            <Fact name="Arithmetic" value={load.arithmetic} />
            <Fact name="Ratios" value={`${load.ratio_min} to ${load.ratio_max}, default ${load.ratio_default}`} />
            <Fact name="Version" value={load.version} />
            {load.fingerprint && (
              <div>
                <dt>Fingerprint</dt>
                <dd><code>{load.fingerprint.slice(0, 16)}…</code> <Copy text={load.fingerprint} label="Copy the fingerprint" /></dd>
              </div>
            )}
          </dl>
        </>
      )}
    </article>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return <div><dt>{name}</dt><dd><Inert text={value} /></dd></div>;
}
