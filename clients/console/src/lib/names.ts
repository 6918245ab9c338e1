//! Names of documents in a namespace. A name of another document is never taken over or removed.

import { call, json, namePath, Problem, send, type DocumentPage, type Name } from "./api";

/** Names per request, the maximum of the API. */
const PAGE = 1000;
/** Maximum names that are held. */
const NAMES_MAX = 20_000;

/** Names of documents, by id. */
export type NamesById = Map<string, string[]>;

/** Reads the names of a namespace, up to `NAMES_MAX`. */
export async function readNames(namespace: string, signal: AbortSignal): Promise<NamesById> {
  const names: Name[] = [];
  const query = `namespace=${encodeURIComponent(namespace)}&limit=${PAGE}`;
  let cursor: string | null = null;
  do {
    const next: string = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const page: { names: Name[]; next_cursor: string | null } = await json(`/v1/names?${query}${next}`, { signal });
    names.push(...page.names);
    cursor = page.next_cursor;
  } while (cursor !== null && names.length < NAMES_MAX);
  const byId: NamesById = new Map();
  for (const { id, name } of names) byId.set(id, [...(byId.get(id) ?? []), name]);
  return byId;
}

/** Returns the names of a document in a namespace. */
export async function namesOf(id: string, namespace: string, signal?: AbortSignal): Promise<string[]> {
  const query = `namespace=${encodeURIComponent(namespace)}&id_prefix=${id}`;
  const page: DocumentPage = await json(`/v1/documents?${query}`, { signal });
  return page.documents.find((document) => document.id === id)?.names ?? [];
}

/** Gives a document a name. Fails if the name exists. */
export async function addName(id: string, namespace: string, name: string): Promise<void> {
  try {
    await send("PUT", namePath(namespace, name), { id }, { "if-none-match": "*" });
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 412) throw error;
    const { id: owner } = await readName(namespace, name);
    throw new Error(owner === id ? "the document already has this name" : "another document has this name; choose another one");
  }
}

/** Removes a name of a document. Fails if the name points at another document by now. */
export async function removeName(id: string, namespace: string, name: string): Promise<void> {
  const { id: owner, token } = await readName(namespace, name);
  if (owner !== id) throw new Error("another document has this name by now");
  await call(namePath(namespace, name), { method: "DELETE", headers: { "if-match": `"${token}"` } });
}

/** Renames a document: adds the new name, then removes the old one. */
export async function renameDocument(id: string, namespace: string, old: string, name: string): Promise<void> {
  await addName(id, namespace, name);
  await removeName(id, namespace, old);
}

function readName(namespace: string, name: string): Promise<Name> {
  return json(namePath(namespace, name), { cache: "no-store" });
}
