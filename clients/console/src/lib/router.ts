//! Routes below `/console`, kept in the address bar and the history of the browser.

import { Store } from "./store";

const BASE = "/console";

/** Path below `/console` without a slash at the end, such as `/documents`, and the query. */
export interface Route {
  path: string;
  query: URLSearchParams;
}

export const route = new Store<Route>(current());

function current(): Route {
  const path = location.pathname.slice(BASE.length).replace(/\/+$/, "");
  return { path: path === "" ? "/" : path, query: new URLSearchParams(location.search) };
}

/** Returns the address of a path below `/console`. */
export function address(path: string): string {
  return BASE + (path === "/" ? "/" : path);
}

/** Opens a path below `/console` as a new entry of the history. */
export function navigate(path: string): void {
  history.pushState(null, "", address(path));
  route.set(current());
  scrollTo(0, 0);
}

/** Changes one parameter of the query without a new entry of the history. Null removes it. */
export function replaceQuery(name: string, value: string | null): void {
  const url = new URL(location.href);
  if (value === null) url.searchParams.delete(name);
  else url.searchParams.set(name, value);
  history.replaceState(null, "", url);
  route.set(current());
}

addEventListener("popstate", () => route.set(current()));

// Plain clicks on links to the console change the route. Clicks that open a tab, and downloads, stay with the browser.
document.addEventListener("click", (event) => {
  const link = (event.target as Element | null)?.closest?.("a");
  if (!link || event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if (link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
  if (link.hash && link.pathname === location.pathname) return;
  if (link.pathname !== BASE && !link.pathname.startsWith(`${BASE}/`)) return;
  event.preventDefault();
  navigate(link.pathname.slice(BASE.length) + link.search);
});
