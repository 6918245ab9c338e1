//! Pictures of a trial: shards, latents, the text that was read back, and costs.

import * as format from "../lib/format";
import { sampler, type StageName } from "../lib/sampler";
import { useStore } from "../lib/store";
import type { ReadWindow, Trial } from "../lib/trial";
import { Meter, Stat } from "./basic";
import { Icon } from "./icons";
import { MarkedText } from "./window-view";

/** The text as a bar. Each shard is filled when it is durable. */
export function ShardBar({ trial }: { trial: Trial }) {
  const shards = shardSizes(trial);
  const done = trial.progress?.bytes_done ?? 0;
  const left = trial.progress?.seconds_left;
  const states: Record<Trial["phase"], string> = {
    waiting: "Waits for the other ratio",
    writing: `${format.bytes(done)} of ${format.bytes(trial.bytes)} stored${left ? `, about ${format.seconds(left)} left` : ""}`,
    reading: `${format.plural(shards.length, "shard")} stored`,
    done: `${format.plural(shards.length, "shard")} stored`,
    failed: "Failed",
  };
  const isWriting = trial.phase === "writing";
  return (
    <>
      <div class={isWriting ? "shards working" : "shards"} role="progressbar" aria-label="Stored bytes" aria-valuemin={0} aria-valuemax={trial.bytes} aria-valuenow={trial.stored ? trial.bytes : done}>
        {shards.map((bytes, index) => <span key={index} class="shard done" style={{ flexGrow: bytes }} title={format.bytes(bytes)} />)}
        {!trial.stored && trial.bytes > done && <span class="shard" style={{ flexGrow: trial.bytes - done }} />}
      </div>
      <p class="hint" role="status">
        {states[trial.phase]}
        {trial.stored && trial.stored.shards_reused > 0 && `, ${format.count(trial.stored.shards_reused)} of them reused`}
      </p>
    </>
  );
}

/** Returns the sizes of the shards that are stored. While they are written, they are the steps of the progress. */
function shardSizes(trial: Trial): number[] {
  if (trial.windows.length === 0) return trial.ends.map((end, index) => end - (trial.ends[index - 1] ?? 0)).filter((size) => size > 0);
  const sizes: number[] = [];
  for (const window of trial.windows) sizes[window.shard] = (sizes[window.shard] ?? 0) + window.end - window.start;
  return sizes;
}

/** What a stage does at the moment. */
function StageLive({ name, doing }: { name: StageName; doing: string }) {
  const stage = useStore(sampler).stages?.[name];
  const tokens = (stage?.queuedTokens ?? 0) + (stage?.runningTokens ?? 0);
  return (
    <div class={`stage-live ${name}`}>
      <Meter share={stage?.busy ?? 0} label={`Busy share of the ${name} stage`} />
      <span class="number">
        {tokens > 0 ? `${doing} ${format.plural(tokens, "token")}` : "waits for work"}, {format.percent(stage?.busy ?? 0)} busy
      </span>
    </div>
  );
}

/** Windows that are drawn one by one. */
const DRAWN_MAX = 24;

/** A row for each window: its tokens, and one square for each latent. */
export function LatentPicture({ trial }: { trial: Trial }) {
  if (trial.phase === "writing") return <StageLive name="compressor" doing="compresses" />;
  if (trial.windows.length === 0) return <p class="muted">{trial.phase === "failed" ? "Nothing was stored" : "Waits"}</p>;
  const tokens = trial.stored?.tokens ?? 0;
  const latents = trial.stored?.latents ?? 0;
  return (
    <>
      <p class="big"><b>{format.plural(tokens, "token")}</b> became <b class="compressor-text">{format.plural(latents, "latent")}</b></p>
      <div class="latent-rows" aria-hidden="true">
        {trial.windows.slice(0, DRAWN_MAX).map((window) => (
          <div class="latent-row" key={window.index}>
            <span class="number muted">{format.count(window.tokens)}</span>
            <span class="latent-dots">{Array.from({ length: window.latents }, (_, index) => <i key={index} />)}</span>
          </div>
        ))}
      </div>
      {trial.windows.length > DRAWN_MAX && <p class="hint">and {format.plural(trial.windows.length - DRAWN_MAX, "more window", "more windows")}</p>}
    </>
  );
}

/** The windows that were read back. */
export function ReadBack({ trial }: { trial: Trial }) {
  const corrections = trial.stored?.corrections ?? 0;
  return (
    <>
      <p class="read-state" role="status">
        {trial.phase === "reading" && trial.isProved === null && <><span class="spinner" aria-hidden="true" /> {format.count(trial.read.length)} of {format.plural(trial.windows.length, "window")} restored</>}
        {trial.isProved === true && <span class="proved"><Icon name="check" /> Restored exactly: the hash is that of your text</span>}
        {trial.isProved === false && <span class="bad-text"><Icon name="alert" /> The restored text has another hash</span>}
        {trial.phase === "waiting" && <span class="muted">Waits</span>}
        {trial.phase === "failed" && <span class="muted">Stopped</span>}
        {trial.phase === "writing" && <span class="muted">Now the decoder is tested on each window. The text is read back afterwards.</span>}
      </p>
      {trial.phase === "writing" && <StageLive name="decoder" doing="verifies" />}
      {trial.stored && trial.isProved !== null && <Reasons corrections={corrections} tokens={trial.stored.tokens} fidelity={trial.stored.fidelity} />}
      <div class="read-back">
        {trial.read.map((read) => <ReadText key={read.window.index} read={read} isOnly={trial.windows.length === 1} />)}
      </div>
    </>
  );
}

interface ReasonsProps {
  corrections: number;
  tokens: number;
  fidelity: number | null;
}

/** One sentence: why there are as many corrections. */
function Reasons({ corrections, tokens, fidelity }: ReasonsProps) {
  if (fidelity === null) return null;
  const wrong = Math.round((1 - fidelity) * tokens);
  const thin = Math.max(0, corrections - wrong);
  return (
    <p class="reasons">
      Given the right tokens before, the decoder gets{" "}
      <b>{wrong === 0 ? "no token" : `${format.count(wrong)} of ${format.plural(tokens, "token")}`}</b> wrong
      {thin > 0 && <>, and <b>{format.count(thin)}</b> right by too small a margin</>}. So{" "}
      <b>{corrections === 0 ? "no corrections" : format.plural(corrections, "correction")}</b> {corrections === 1 ? "is" : "are"} stored.
    </p>
  );
}

function ReadText({ read, isOnly }: { read: ReadWindow; isOnly: boolean }) {
  const { window } = read;
  return (
    <article class="read-window" aria-label={`Window ${window.index + 1}`}>
      {!isOnly && (
        <p class="hint number">
          Window {format.count(window.index + 1)} · {window.ratio}x · {window.corrections ? format.plural(window.corrections.length, "correction") : "not verified"}
        </p>
      )}
      <MarkedText window={window} text={read} draft={read.draft} />
    </article>
  );
}

const NUMBERS: { label: string; value: (trial: Trial) => string }[] = [
  { label: "Text", value: ({ bytes }) => format.bytes(bytes) },
  { label: "Tokens", value: ({ stored }) => (stored ? format.count(stored.tokens) : "–") },
  { label: "Latents", value: ({ stored }) => (stored ? format.count(stored.latents) : "–") },
  { label: "Fidelity", value: ({ stored }) => (stored ? format.fidelity(stored.fidelity) : "–") },
  { label: "Corrections", value: ({ stored }) => (stored?.corrections == null ? "–" : format.count(stored.corrections)) },
  { label: "Stored", value: ({ stored }) => (stored ? format.bytes(stored.stored_bytes) : "–") },
  { label: "Compress", value: ({ stored }) => format.seconds(stored?.seconds.compress) },
  { label: "Verify", value: ({ stored }) => format.seconds(stored?.seconds.verify) },
  { label: "Read", value: ({ secondsRead }) => format.seconds(secondsRead) },
];

export function Costs({ trial }: { trial: Trial }) {
  return (
    <dl class="stats wide">
      {NUMBERS.map(({ label, value }) => <Stat key={label} label={label} value={value(trial)} />)}
    </dl>
  );
}

export function Comparison({ trials }: { trials: Trial[] }) {
  return (
    <table class="plain comparison">
      <caption class="sr-only">The two ratios compared</caption>
      <thead>
        <tr>
          <th scope="col"><span class="sr-only">Number</span></th>
          {trials.map((trial, index) => <th scope="col" key={index}>{trial.ratio === "auto" ? "auto" : `${trial.ratio}x`}</th>)}
        </tr>
      </thead>
      <tbody>
        {NUMBERS.map(({ label, value }) => (
          <tr key={label}>
            <th scope="row">{label}</th>
            {trials.map((trial, index) => <td key={index}>{value(trial)}</td>)}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
