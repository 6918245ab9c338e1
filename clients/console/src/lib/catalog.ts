//! The list of documents, with names, and the search in it.

import { json, type Document, type DocumentPage, type Name } from "./api";

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
export async function readCatalog(signal: AbortSignal, onProgress: (count: number) => void): Promise<Catalog> {
  const names = readNames(signal);
  const catalog = await readPages("", signal, onProgress);
  const byId = new Map<string, string[]>();
  for (const { id, name } of await names) byId.set(id, [...(byId.get(id) ?? []), name]);
  for (const document of catalog.documents) document.names = byId.get(document.id) ?? [];
  return catalog;
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

/** Reads the names of the namespace `default`. */
async function readNames(signal: AbortSignal): Promise<Name[]> {
  const names: Name[] = [];
  let cursor: string | null = null;
  do {
    const next: string = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const page: { names: Name[]; next_cursor: string | null } = await json(`/v1/names?limit=${PAGE}${next}`, { signal });
    names.push(...page.names);
    cursor = page.next_cursor;
  } while (cursor !== null && names.length < DOCUMENTS_MAX);
  return names;
}

/** Returns the names of a document in the namespace `default`. */
export async function namesOf(id: string, signal?: AbortSignal): Promise<string[]> {
  const page: DocumentPage = await json(`/v1/documents?namespace=default&id_prefix=${id}`, { signal });
  return page.documents.find((document) => document.id === id)?.names ?? [];
}

/** Searches the documents that are held: names and labels contain the text, or the id begins with it. */
export function search(documents: Document[], text: string): Document[] {
  const wanted = text.trim().toLowerCase();
  if (wanted === "") return documents;
  return documents.filter(
    ({ id, names, labels }) =>
      id.startsWith(wanted) ||
      names?.some((name) => name.toLowerCase().includes(wanted)) ||
      (labels && Object.entries(labels).some(([key, value]) => `${key}=${value}`.toLowerCase().includes(wanted))),
  );
}

/** Asks the gateway for documents whose id or name begins with the text, or that have the label `KEY=VALUE`. */
export async function searchGateway(text: string, signal: AbortSignal): Promise<Document[]> {
  const wanted = text.trim();
  const queries = [];
  if (wanted.includes("=")) queries.push(`&label=${encodeURIComponent(wanted)}`);
  if (/^[0-9a-f]{1,64}$/.test(wanted)) queries.push(`&id_prefix=${wanted}`);
  if (/^[\w.\-/]+$/.test(wanted)) queries.push(`&name_prefix=${encodeURIComponent(wanted)}`);
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
