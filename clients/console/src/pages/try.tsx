//! Try it: stores a text and shows each step, with the explanation beside it. Compares two ratios.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { announce } from "../components/basic";
import { Icon } from "../components/icons";
import { Comparison, Costs, LatentPicture, ReadBack, ShardBar } from "../components/trial-parts";
import { describe } from "../lib/api";
import * as format from "../lib/format";
import { address } from "../lib/router";
import { SAMPLES } from "../lib/samples";
import { sampler } from "../lib/sampler";
import { session } from "../lib/session";
import { useStore } from "../lib/store";
import { byteLength } from "../lib/text";
import { newTrial, runTrial, type Ratio, type Trial } from "../lib/trial";

/** Maximum size of a text. On two cores, 256 KiB take minutes. */
const BYTES_MAX = 256 << 10;
const RATIO_MIN = 10;
const RATIO_MAX = 80;

const KEEP = [
  { seconds: 3600, label: "for an hour" },
  { seconds: 86_400, label: "for a day" },
  { seconds: null, label: "until deleted" },
];

export function TryIt() {
  const [text, setText] = useState(SAMPLES[0]!.text);
  const [first, setFirst] = useState<Ratio>(20);
  const [second, setSecond] = useState<Ratio | null>(null);
  const [fidelityMin, setFidelityMin] = useState(0.999);
  const [keep, setKeep] = useState(0);
  const [trials, setTrials] = useState<Trial[]>([]);
  const [abort, setAbort] = useState<AbortController | null>(null);
  const results = useRef<HTMLElement>(null);
  useEffect(() => () => abort?.abort(), [abort]);

  const bytes = byteLength(text);
  const problem = text === "" ? "Enter a text." : bytes > BYTES_MAX ? `The text has ${format.bytes(bytes)}. At most ${format.bytes(BYTES_MAX)} can be tried here; store longer ones with c3 put.` : null;

  const run = async (event: Event) => {
    event.preventDefault();
    if (problem) return;
    const ratios = second === null ? [first] : [first, second];
    const abort = new AbortController();
    setAbort(abort);
    const state = ratios.map((ratio) => newTrial(ratio, bytes));
    setTrials([...state]);
    requestAnimationFrame(() => results.current?.scrollIntoView({ block: "start" }));
    announce("Storing the text");
    // One after the other: both are the same document, because its id is the hash of the text.
    for (const [index, ratio] of ratios.entries()) {
      const options = { text, ratio, fidelityMin, keepSeconds: KEEP[keep]!.seconds };
      const change = (trial: Trial) => {
        state[index] = trial;
        setTrials([...state]);
      };
      try {
        await runTrial(options, change, abort.signal);
      } catch {
        // Stopped by the user, or the page was left.
        return;
      }
      if (state[index]!.phase === "failed") break;
    }
    announce(state.every(({ phase }) => phase === "done") ? "Done. The text was restored exactly." : "The trial failed");
    setAbort(null);
  };
  const stop = () => {
    abort?.abort();
    setAbort(null);
    setTrials((trials) => trials.filter(({ phase }) => phase === "done"));
  };

  return (
    <>
      <div class="page-head">
        <h1>Try it</h1>
        <p class="muted">Store a text as latents, watch each step, and see what the decoder makes of them.</p>
      </div>
      <form class="panel try-form" onSubmit={run}>
        <TextInput text={text} setText={setText} bytes={bytes} />
        <div class="try-options">
          <RatioChoice id="first" label={second === null ? "Ratio" : "First ratio"} value={first} onChange={setFirst} />
          {second !== null && <RatioChoice id="second" label="Second ratio" value={second} onChange={setSecond} />}
          <label class="check">
            <input type="checkbox" checked={second !== null} onChange={(event) => setSecond(event.currentTarget.checked ? 60 : null)} />
            Compare two ratios
          </label>
          {(first === "auto" || second === "auto") && (
            <div>
              <label for="fidelity">Minimum fidelity of auto</label>
              <select id="fidelity" value={String(fidelityMin)} onChange={(event) => setFidelityMin(Number(event.currentTarget.value))}>
                {[0.9, 0.99, 0.999, 1].map((value) => <option key={value} value={String(value)}>{value * 100} %</option>)}
              </select>
            </div>
          )}
          <div>
            <label for="keep">Keep the document</label>
            <select id="keep" value={String(keep)} onChange={(event) => setKeep(Number(event.currentTarget.value))}>
              {KEEP.map(({ label }, index) => <option key={label} value={String(index)}>{label}</option>)}
            </select>
          </div>
          <p class="field-problem" role="alert">{problem}</p>
          {abort
            ? <button type="button" onClick={stop}>Stop</button>
            : <button type="submit" class="primary" disabled={problem !== null}><Icon name="try" /> Store and restore</button>}
        </div>
      </form>
      <section ref={results} class="results" aria-label="Result">
        <Steps trials={trials} />
      </section>
    </>
  );
}

function TextInput({ text, setText, bytes }: { text: string; setText: (text: string) => void; bytes: number }) {
  const [isOver, setOver] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const open = async (file: File | undefined) => {
    setProblem(null);
    if (!file) return;
    if (file.size > BYTES_MAX) return setProblem(`This file has ${format.bytes(file.size)}; at most ${format.bytes(BYTES_MAX)} can be tried here.`);
    try {
      setText(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await file.arrayBuffer()));
    } catch {
      setProblem("This file is not UTF-8 text.");
    }
  };
  return (
    <div
      class={isOver ? "try-text over" : "try-text"}
      onDragOver={(event) => (event.preventDefault(), setOver(true))}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        void open(event.dataTransfer?.files[0]);
      }}
    >
      <div class="try-text-head">
        <label for="text">Text</label>
        <span class="samples">
          {SAMPLES.map((sample) => <button type="button" class="link" key={sample.name} onClick={() => setText(sample.text)}>{sample.name}</button>)}
          <label class="link file">
            <input type="file" class="sr-only" aria-label="Open a text file" onChange={(event) => open(event.currentTarget.files?.[0])} />
            Open a file
          </label>
        </span>
      </div>
      <textarea id="text" value={text} spellcheck={false} dir="auto" placeholder="Paste a text, or drop a file here" onInput={(event) => setText(event.currentTarget.value)} />
      <p class="hint" role="status">{problem ?? `${format.bytes(bytes)} · paste or drop another text`}</p>
    </div>
  );
}

interface RatioChoiceProps {
  id: string;
  label: string;
  value: Ratio;
  onChange: (value: Ratio) => void;
}

function RatioChoice({ id, label, value, onChange }: RatioChoiceProps) {
  const { nodes } = useStore(sampler);
  const [last, setLast] = useState(value === "auto" ? 20 : value);
  const limit = nodes?.find((node) => node.stage === "compressor" && node.description)?.description;
  return (
    <div class="ratio-choice">
      <label for={`${id}-ratio`}>{label} <b class="number">{value === "auto" ? "auto" : `${value}x`}</b></label>
      <input
        id={`${id}-ratio`}
        type="range"
        min={Math.max(RATIO_MIN, limit?.ratio_min ?? RATIO_MIN)}
        max={Math.min(RATIO_MAX, limit?.ratio_max ?? RATIO_MAX)}
        step={5}
        value={last}
        disabled={value === "auto"}
        aria-valuetext={`${last} text tokens per latent`}
        onInput={(event) => {
          const next = Number(event.currentTarget.value);
          setLast(next);
          onChange(next);
        }}
      />
      <label class="check">
        <input type="checkbox" checked={value === "auto"} onChange={(event) => onChange(event.currentTarget.checked ? "auto" : last)} />
        auto: the highest ratio that is good enough, for each part
      </label>
    </div>
  );
}

/** The steps, with an explanation beside each. Without a trial, only the explanations. */
function Steps({ trials }: { trials: Trial[] }) {
  const failed = trials.find(({ phase }) => phase === "failed");
  const last = trials.filter(({ stored }) => stored).at(-1)?.stored;
  const both = (part: (trial: Trial) => ComponentChildren) => (
    <div class={trials.length > 1 ? "pair-view" : ""}>
      {trials.map((trial, index) => (
        <div key={index}>
          {trials.length > 1 && <h3 class="ratio-title">{ratioTitle(trial)}</h3>}
          {part(trial)}
        </div>
      ))}
    </div>
  );
  return (
    <>
      <Step number={1} title="The text is cut into shards" picture={trials.length > 0 && both((trial) => <ShardBar trial={trial} />)}>
        <p>
          The gateway cuts the text where its content suggests it, into <b>shards</b> of 4 to 16 KB, and sends each shard to a
          node of its own. A shard that is stored already, in any of your documents, is reused.
        </p>
      </Step>
      <Step number={2} title="The compressor writes latents" tone="compressor" picture={trials.length > 0 && both((trial) => <LatentPicture trial={trial} />)}>
        <p>
          A small language model, the <b>compressor</b>, reads a window of text and condenses it into at most 32 vectors, its{" "}
          <b>latents</b>. The <b>ratio</b> says how many text tokens one latent stands for. Only latents are stored, never text.
        </p>
      </Step>
      <Step
        number={3}
        title="The decoder restores the text"
        tone="decoder"
        picture={trials.length > 0 && both((trial) => <ReadBack trial={trial} />)}
      >
        <p>
          A larger model, the <b>decoder</b>, reads the latents and writes the text. When the text was stored, the decoder was
          tested on every token. Where it would be wrong, or right only by a small margin, the right token was stored: a{" "}
          <b>correction</b>, <mark class="corrected">marked like this</mark>. So the result is exact, and its hash proves it.
        </p>
        <p>
          Alone, one wrong token misleads the decoder about the next ones, so one correction often repairs several words. A
          higher ratio makes its work harder: fewer latents, more corrections.
        </p>
      </Step>
      <Step number={4} title="What it costs" picture={trials.length > 0 && (trials.length > 1 ? <Comparison trials={trials} /> : <Costs trial={trials[0]!} />)}>
        <p>
          Latents take more bytes than the text. Their use is another: a model that reads latents in place of tokens reads a
          long text as a short one. Storing needs both stages, as every window is verified. Reading needs the decoder only.
        </p>
      </Step>
      {failed && (
        <div class="note bad" role="alert"><Icon name="alert" /><p>{describe(failed.error)}</p></div>
      )}
      {last && (
        <p class="try-next">
          <a class="button" href={address(`/documents/${last.id}`)}>Open the document</a>
          {trials.length > 1 && <span class="muted">Both trials are one document, as its id is the hash of the text. It now has the last ratio.</span>}
        </p>
      )}
      {!session.may("delete") && last ? <p class="hint">Your key cannot delete documents.</p> : null}
    </>
  );
}

function ratioTitle(trial: Trial): string {
  if (trial.ratio !== "auto") return `${trial.ratio}x`;
  return trial.stored ? `auto: ${format.ratio(trial.stored.ratio)}` : "auto";
}

interface StepProps {
  number: number;
  title: string;
  tone?: "compressor" | "decoder";
  picture: ComponentChildren;
  children: ComponentChildren;
}

function Step({ number, title, tone, picture, children }: StepProps) {
  return (
    <section class={`panel step ${tone ?? ""} ${picture ? "" : "untried"}`} aria-labelledby={`step-${number}`}>
      <div class="step-text">
        <h2 id={`step-${number}`}><span class="step-number" aria-hidden="true">{number}</span> {title}</h2>
        {children}
      </div>
      {picture && <div class="step-picture">{picture}</div>}
    </section>
  );
}
