//! One trial: stores a text at a ratio, then reads it back window by window.

import { documentPath, json, Problem, type Document, type Progress, type Stored } from "./api";
import { readDraft } from "./drafts";
import { events } from "./events";
import { hasher } from "./hash";
import { readWindows, type Window } from "./latents";
import type { Mark } from "./text";
import { markCorrections } from "./window-text";

export type Ratio = number | "auto";

/** A window that was read back. */
export interface ReadWindow {
  window: Window;
  text: string;
  marks: Mark[];
  located: number;
  /** Null until it is read, and if it cannot be read. */
  draft: string | null;
}

export interface Trial {
  ratio: Ratio;
  bytes: number;
  phase: "waiting" | "writing" | "reading" | "done" | "failed";
  /** Bytes at which each progress event of the write arrived: the ends of shards. */
  ends: number[];
  progress: Progress | null;
  stored: Stored | null;
  windows: Window[];
  read: ReadWindow[];
  /** True if the text that was read back has the hash of the text. */
  isProved: boolean | null;
  secondsRead: number | null;
  error: unknown;
}

export function newTrial(ratio: Ratio, bytes: number): Trial {
  return {
    ratio,
    bytes,
    phase: "waiting",
    ends: [],
    progress: null,
    stored: null,
    windows: [],
    read: [],
    isProved: null,
    secondsRead: null,
    error: null,
  };
}

export interface TrialOptions {
  text: string;
  ratio: Ratio;
  /** Minimum fidelity of the ratio `auto`. */
  fidelityMin: number;
  /** Seconds after which the document is deleted; null: never. */
  keepSeconds: number | null;
}

/** Runs a trial. `onChange` gets each new state. Throws only if the signal ended it. */
export async function runTrial(options: TrialOptions, onChange: (trial: Trial) => void, signal: AbortSignal) {
  const body = new TextEncoder().encode(options.text);
  let trial = newTrial(options.ratio, body.length);
  const change = (changes: Partial<Trial>) => onChange((trial = { ...trial, ...changes }));
  try {
    change({ phase: "writing" });
    const stored = await write(options, body, signal, (progress) =>
      change({ progress, ends: [...trial.ends, progress.bytes_done] }),
    );
    const { windows } = await readWindows(stored.id, signal);
    change({ phase: "reading", stored, windows });
    await read(stored.id, windows, signal, change);
    change({ phase: "done" });
  } catch (error) {
    signal.throwIfAborted();
    change({ phase: "failed", error });
  }
}

async function write(
  { ratio, fidelityMin, keepSeconds }: TrialOptions,
  body: Uint8Array<ArrayBuffer>,
  signal: AbortSignal,
  onProgress: (progress: Progress) => void,
): Promise<Stored> {
  const query = new URLSearchParams({ ratio: String(ratio) });
  if (ratio === "auto") query.set("fidelity_min", String(fidelityMin));
  const expiry = await expirySeconds(body, keepSeconds, signal);
  if (expiry !== null) query.set("ttl_seconds", String(expiry));
  const headers = { "content-type": "text/plain; charset=utf-8" };
  for await (const event of events(`/v1/documents?${query}`, { method: "PUT", headers, body, signal })) {
    if (event.name === "progress") onProgress(event.data);
    if (event.name === "result") return event.data;
  }
  throw new Error("the gateway sent no result; try again");
}

/** Returns the seconds that the document is kept. A document that was stored before without an end keeps having none. */
async function expirySeconds(body: Uint8Array, keepSeconds: number | null, signal: AbortSignal) {
  if (keepSeconds === null) return null;
  const id = (await hasher()).hash(body);
  try {
    const { expires } = await json<Document>(documentPath(id), { signal });
    return expires ? Math.max(keepSeconds, Math.ceil((Date.parse(expires) - Date.now()) / 1000)) : null;
  } catch (error) {
    if (error instanceof Problem && error.status === 404) return keepSeconds;
    throw error;
  }
}

async function read(id: string, windows: Window[], signal: AbortSignal, change: (changes: Partial<Trial>) => void) {
  const begin = performance.now();
  const hash = (await hasher()).begin();
  const read: ReadWindow[] = [];
  for await (const event of events(documentPath(id, "/text"), { signal })) {
    if (event.name !== "text") continue;
    const window = windows[event.data.window]!;
    const text: string = event.data.text;
    hash.update(new TextEncoder().encode(text));
    read.push({ window, text, draft: null, ...(await markCorrections(text, window)) });
    change({ read: [...read] });
  }
  change({ isProved: hash.end() === id, secondsRead: (performance.now() - begin) / 1000 });
  for (const [index, one] of read.entries()) {
    // The trial is complete without drafts. After a failure, the others would most likely fail too.
    const draft = await readDraft(id, one.window.index, signal).catch(() => null);
    signal.throwIfAborted();
    if (draft === null) return;
    read[index] = { ...one, draft };
    change({ read: [...read] });
  }
}
