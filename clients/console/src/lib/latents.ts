//! Descriptions of the windows of a document, which the header of its latents file has.

import { call, documentPath } from "./api";

export interface Window {
  index: number;
  shard: number;
  /** Byte range in the document. */
  start: number;
  end: number;
  latents: number;
  tokens: number;
  ratio: number;
  codec: string;
  /** BLAKE3 hash of the window's text. */
  hash: string;
  /** Positions and ids of corrected tokens; null if the window was not verified. */
  corrections: [position: number, token: number][] | null;
}

export interface Fingerprints {
  compressor: string;
  decoder: string;
}

/** Bytes before the header of a safetensors file, which have its length. */
const LENGTH_BYTES = 8;

/** Reads the header of a document's latents file and stops before the latents. */
export async function readWindows(
  id: string,
  signal?: AbortSignal,
): Promise<{ windows: Window[]; fingerprints: Fingerprints }> {
  const response = await call(documentPath(id, "/latents"), { signal });
  const reader = response.body!.getReader();
  const parts: Uint8Array[] = [];
  let size = 0;
  let needed = LENGTH_BYTES;
  while (size < needed) {
    const { done, value } = await reader.read();
    if (done) throw new Error("the latents file ends too early; reload the page");
    parts.push(value);
    size += value.length;
    if (needed === LENGTH_BYTES && size >= LENGTH_BYTES) {
      const length = new DataView(join(parts, size).buffer).getBigUint64(0, true);
      needed = LENGTH_BYTES + Number(length);
    }
  }
  void reader.cancel().catch(() => {});
  const header = new TextDecoder().decode(join(parts, size).subarray(LENGTH_BYTES, needed));
  const [description] = Object.values(JSON.parse(header).__metadata__ as Record<string, string>);
  const { document, windows } = JSON.parse(description!);
  return {
    windows: windows.map((window: Window, index: number) => ({
      ...window,
      index,
      corrections: window.corrections ?? null,
    })),
    fingerprints: { compressor: document.compressor, decoder: document.decoder },
  };
}

function join(parts: Uint8Array[], size: number): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** Returns the share of a window's tokens that are corrected; null if it was not verified. */
export function correctedShare(window: Window): number | null {
  return window.corrections === null ? null : window.corrections.length / Math.max(1, window.tokens);
}
