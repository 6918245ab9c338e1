//! Drafts: what the decoder writes for a window without corrections.

import { call, documentPath, Problem } from "./api";

let isServed = true;

/** Returns the draft of a window, or null if this gateway does not serve drafts. */
export async function readDraft(id: string, window: number, signal?: AbortSignal): Promise<string | null> {
  if (!isServed) return null;
  try {
    return await (await call(documentPath(id, `/drafts/${window}`), { signal })).text();
  } catch (error) {
    const isMissing = error instanceof Problem && (error.status === 404 || error.status === 405);
    if (!isMissing) throw error;
    isServed = false;
    return null;
  }
}
