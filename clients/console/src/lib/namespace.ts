//! The namespace whose names the console shows. Documents belong to no namespace; only their names do.

import { useEffect } from "preact/hooks";

import { address, replaceQuery, route } from "./router";
import { Store, useStore } from "./store";

export const DEFAULT_NAMESPACE = "default";

const PARAMETER = "namespace";
/** Key in the storage of the tab. */
const KEY = "c3.namespace";

class NamespaceStore extends Store<string> {
  /** Sets the namespace for this tab. An empty one is the default. */
  choose(namespace: string): void {
    const chosen = namespace.trim() || DEFAULT_NAMESPACE;
    try {
      sessionStorage.setItem(KEY, chosen);
    } catch {
      // Storage is blocked: the choice lasts until the page is closed.
    }
    if (chosen !== this.value) this.set(chosen);
  }
}

export const namespace = new NamespaceStore(remembered());

function remembered(): string {
  try {
    return sessionStorage.getItem(KEY) ?? DEFAULT_NAMESPACE;
  } catch {
    return DEFAULT_NAMESPACE;
  }
}

/** Takes the namespace over that the address has. */
function follow(): void {
  const wanted = route.value.query.get(PARAMETER);
  if (wanted !== null) namespace.choose(wanted);
}

follow();
route.subscribe(follow);

/** Returns the namespace, and keeps it in the address while the component is shown, so that copied links have it. */
export function useNamespace(): string {
  const chosen = useStore(namespace);
  const shown = useStore(route);
  useEffect(() => {
    const written = chosen === DEFAULT_NAMESPACE ? null : chosen;
    if (shown.query.get(PARAMETER) !== written) replaceQuery(PARAMETER, written);
  }, [chosen, shown]);
  return chosen;
}

/** Returns the address of a document's page with the names of a namespace. */
export function documentAddress(id: string, namespace: string): string {
  const query = namespace === DEFAULT_NAMESPACE ? "" : `?${PARAMETER}=${encodeURIComponent(namespace)}`;
  return address(`/documents/${id}${query}`);
}

/** Returns a name as programs write it, such as `@book` or `@team/book`. */
export function nameReference(namespace: string, name: string): string {
  return namespace === DEFAULT_NAMESPACE && !name.includes("/") ? `@${name}` : `@${namespace}/${name}`;
}
