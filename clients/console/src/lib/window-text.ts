//! The text of a window, its proof, and the marks of its corrected tokens.

import { call, documentPath } from "./api";
import { hasher } from "./hash";
import type { Window } from "./latents";
import { toUnits, type Mark } from "./text";
import { locate, Tokenizer } from "./tokenizer";

export interface WindowText {
  text: string;
  /** True if the BLAKE3 hash of the bytes, computed here, is the stored one. */
  isProved: boolean;
  marks: Mark[];
  /** Corrected tokens that are marked. Fewer than the corrections if the model has another vocabulary. */
  located: number;
}

let tokenizer: Promise<Tokenizer> | null = null;

/** Decodes a window. The browser keeps no copy, so that each call is a proof. */
export async function readWindowText(id: string, window: Window, signal?: AbortSignal): Promise<WindowText> {
  const range = { range: `bytes=${window.start}-${window.end - 1}` };
  const response = await call(documentPath(id, "/text"), { headers: range, signal, cache: "no-store" });
  const bytes = new Uint8Array(await response.arrayBuffer());
  const { hash } = await hasher();
  const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  return { text, isProved: hash(bytes) === window.hash, ...(await markCorrections(text, window)) };
}

/** Marks the corrected tokens of a window in its text. */
export async function markCorrections(text: string, window: Window): Promise<{ marks: Mark[]; located: number }> {
  if (!window.corrections?.length) return { marks: [], located: 0 };
  tokenizer ??= Tokenizer.load();
  const spans = locate(await tokenizer, text, window.corrections);
  const marks = toUnits(text, spans).map((range): Mark => ({ ...range, kind: "corrected" }));
  return { marks, located: spans.length };
}
