//! The list of documents, and the search in it.

import { json, type Document, type DocumentPage } from "./api";
import type { NamesById } from "./names";

/** Documents per request, the maximum of the API. */
const PAGE = 1000;
/** Maximum documents that are held. Beyond, searches go to the gateway. */
export const DOCUMENTS_MAX = 20_000;

export interface Catalog {
  documents: Document[];
  /** False if there are more than `DOCUMENTS_MAX`. */
  isComplete: boolean;
  damaged: DocumentPage["damaged"];
}

/** Reads all documents, up to `DOCUMENTS_MAX`. `onProgress` gets the number that has arrived. */
export function readCatalog(signal: AbortSignal, onProgress: (count: number) => void): Promise<Catalog> {
  return readPages("", signal, onProgress);
}

/** Returns the documents with their names. */
export function withNames(documents: Document[], names: NamesById): Document[] {
  return documents.map((document) => ({ ...document, names: names.get(document.id) ?? [] }));
}

async function readPages(query: string, signal: AbortSignal, onProgress: (count: number) => void): Promise<Catalog> {
  const documents: Document[] = [];
  const damaged: DocumentPage["damaged"] = [];
  let cursor: string | null = null;
  do {
    const next: string = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const page: DocumentPage = await json(`/v1/documents?limit=${PAGE}${query}${next}`, { signal });
    documents.push(...page.documents);
    damaged.push(...page.damaged);
    cursor = page.next_cursor;
    onProgress(documents.length);
  } while (cursor !== null && documents.length < DOCUMENTS_MAX);
  return { documents, damaged, isComplete: cursor === null };
}

export interface Filter {
  /** Text in names or labels, or beginning of an id. */
  text: string;
  namespace: string;
  /** Only documents with a name in the namespace. */
  isNamed: boolean;
}

/** Searches the documents that are held: names and labels contain the text, or the id begins with it. */
export function search(documents: Document[], { text, isNamed }: Filter): Document[] {
  const wanted = text.trim().toLowerCase();
  const candidates = isNamed ? documents.filter(({ names }) => names && names.length > 0) : documents;
  if (wanted === "") return candidates;
  return candidates.filter(
    ({ id, names, labels }) =>
      id.startsWith(wanted) ||
      names?.some((name) => name.toLowerCase().includes(wanted)) ||
      (labels && Object.entries(labels).some(([key, value]) => `${key}=${value}`.toLowerCase().includes(wanted))),
  );
}

/** Asks the gateway for documents whose id or name begins with the text, or that have the label `KEY=VALUE`. */
export async function searchGateway({ text, namespace, isNamed }: Filter, signal: AbortSignal): Promise<Document[]> {
  const wanted = text.trim();
  const named = `&namespace=${encodeURIComponent(namespace)}`;
  const restricted = isNamed ? named : "";
  const queries = [];
  if (wanted === "") queries.push(restricted);
  else queries.push(`${named}&name_prefix=${encodeURIComponent(wanted)}`);
  if (/^[^=]+=/.test(wanted)) queries.push(`${restricted}&label=${encodeURIComponent(wanted)}`);
  if (/^[0-9a-f]{1,64}$/i.test(wanted)) queries.push(`${restricted}&id_prefix=${wanted}`);
  const found = await Promise.all(queries.map((query) => readPages(query, signal, () => {})));
  const byId = new Map(found.flatMap(({ documents }) => documents).map((document) => [document.id, document]));
  return [...byId.values()];
}

export type SortKey = "name" | "bytes" | "ratio" | "fidelity" | "corrections" | "stored_bytes" | "created";

export function sort(documents: Document[], key: SortKey, isDescending: boolean): Document[] {
  const value = (document: Document): string | number =>
    key === "name" ? (document.names?.[0] ?? "\uffff") : (document[key] ?? -1);
  const direction = isDescending ? -1 : 1;
  return documents
    .map((document) => ({ document, value: value(document) }))
    .sort((a, b) => (a.value < b.value ? -direction : a.value > b.value ? direction : 0))
    .map(({ document }) => document);
}
