//! Drafts: what the decoder writes for a window without corrections.

import { call, documentPath } from "./api";

/** Returns the draft of a window. The gateway replaces bytes that are not valid UTF-8 by U+FFFD. */
export async function readDraft(id: string, window: number, signal?: AbortSignal): Promise<string> {
  const response = await call(documentPath(id, `/drafts/${window}`), { signal });
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(await response.arrayBuffer());
}
