//! The shell of the console: navigation, sign-in, the state of the connection, and the page of the route.

import { render } from "preact";
import { useEffect, useRef } from "preact/hooks";

import { Announcer, Empty, lazy, Waiting } from "./components/basic";
import { Icon, type IconName } from "./components/icons";
import { connection, type ConnectionState } from "./lib/connection";
import { address, route } from "./lib/router";
import { sampler } from "./lib/sampler";
import { session, type Scope } from "./lib/session";
import { useStore } from "./lib/store";
import { theme, type Theme } from "./lib/theme";
import { Overview } from "./pages/overview";
import "./styles.css";

const Nodes = lazy(async () => (await import("./pages/nodes")).Nodes);
const Documents = lazy(async () => (await import("./pages/documents")).Documents);
const DocumentPage = lazy(async () => (await import("./pages/document")).DocumentPage);
const TryIt = lazy(async () => (await import("./pages/try")).TryIt);
const SignIn = lazy(async () => (await import("./pages/sign-in")).SignIn);

const PAGES: { path: string; title: string; icon: IconName; scope: Scope | null }[] = [
  { path: "/", title: "Overview", icon: "overview", scope: null },
  { path: "/nodes", title: "Nodes", icon: "nodes", scope: null },
  { path: "/documents", title: "Documents", icon: "documents", scope: "read" },
  { path: "/try", title: "Try it", icon: "try", scope: "write" },
];

function App() {
  const state = useStore(session);
  useStore(connection);
  if (state.state === "loading") {
    return <main class="alone">{connection.isUp ? <Waiting label="Loading the console" /> : <Empty title="Waiting for the gateway" />}<ConnectionBanner /></main>;
  }
  if (state.required && !state.signed_in) return <><SignIn /><ConnectionBanner /><Announcer /></>;
  return <Shell />;
}

function Shell() {
  const { path } = useStore(route);
  const main = useRef<HTMLElement>(null);
  const isFirst = useRef(true);
  useEffect(() => {
    const page = PAGES.find((page) => page.path === path)?.title ?? (path.startsWith("/documents/") ? "Document" : "Not found");
    document.title = `${page} – C3 Serve`;
    // After a change of the page, a keyboard or a screen reader goes on at its beginning.
    if (!isFirst.current) main.current?.focus({ preventScroll: true });
    isFirst.current = false;
  }, [path]);
  useEffect(() => sampler.start(), []);
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), main.current?.focus())}>Skip to the content</a>
      <header class="side">
        <a class="brand" href={address("/")}>
          <img src={`${address("/")}icon.svg`} alt="" width="24" height="24" /> C3 Serve
        </a>
        <nav aria-label="Pages">
          {PAGES.filter(({ scope }) => scope === null || session.may(scope)).map((page) => (
            <a
              key={page.path}
              href={address(page.path)}
              aria-current={path === page.path || (page.path !== "/" && path.startsWith(`${page.path}/`)) ? "page" : undefined}
            >
              <Icon name={page.icon} /> {page.title}
            </a>
          ))}
        </nav>
        <div class="side-end">
          <Readiness />
          <Account />
          <ThemeChoice />
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        <Page path={path} />
      </main>
      <ConnectionBanner />
      <Announcer />
    </>
  );
}

function Page({ path }: { path: string }) {
  if (path === "/") return <Overview />;
  if (path === "/nodes") return <Nodes />;
  if (path === "/documents") return session.may("read") ? <Documents /> : <NotAllowed scope="read" />;
  if (path === "/try") return session.may("write") && session.may("read") ? <TryIt /> : <NotAllowed scope="write" />;
  const id = /^\/documents\/([^/]+)$/.exec(path)?.[1];
  if (id) return session.may("read") ? <DocumentPage key={id} reference={decode(id)} /> : <NotAllowed scope="read" />;
  return (
    <Empty title="There is no such page">
      <p><a href={address("/")}>Go to the overview</a></p>
    </Empty>
  );
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function NotAllowed({ scope }: { scope: Scope }) {
  return (
    <Empty title="Your key does not allow this">
      <p>This page needs a key with the scope <code>{scope}</code>. An operator of the gateway can give you one.</p>
    </Empty>
  );
}

const STATES: Record<ConnectionState["kind"], { label: string; tone: string }> = {
  unknown: { label: "Connecting", tone: "idle" },
  ready: { label: "Ready", tone: "good" },
  not_ready: { label: "Not ready", tone: "warn" },
  lost: { label: "No answer", tone: "bad" },
  offline: { label: "Offline", tone: "bad" },
};

function Readiness() {
  const state = useStore(connection);
  const { label, tone } = STATES[state.kind];
  return (
    <p class="readiness">
      <span class={`dot ${tone}`} aria-hidden="true" /> <span class="sr-only">Gateway: </span>{label}
    </p>
  );
}

function Account() {
  const state = useStore(session);
  if (state.state !== "known" || !state.required) return null;
  return (
    <div class="account">
      <p title={`Scopes: ${state.scopes.join(", ")}`}>
        <b>{state.key ?? "Signed in"}</b>
        {state.tenant && <span class="muted"> {state.tenant}</span>}
      </p>
      <button type="button" class="icon-button" aria-label="Sign out" title="Sign out" onClick={() => session.signOut()}>
        <Icon name="exit" />
      </button>
    </div>
  );
}

const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const THEME_ICONS: Record<Theme, IconName> = { system: "system", light: "sun", dark: "moon" };

function ThemeChoice() {
  const chosen = useStore(theme);
  const label = `Theme: ${chosen}. Change to ${NEXT[chosen]}`;
  return (
    <button type="button" class="icon-button" aria-label={label} title={label} onClick={() => theme.choose(NEXT[chosen])}>
      <Icon name={THEME_ICONS[chosen]} />
    </button>
  );
}

/** Says why nothing changes. It lies over the page, so that nothing moves. */
function ConnectionBanner() {
  const state = useStore(connection);
  const texts: Partial<Record<ConnectionState["kind"], string>> = {
    lost: "The gateway does not answer. It may be restarting; this page goes on by itself.",
    offline: "Your browser is offline. This page goes on when the network is back.",
  };
  if (state.kind === "not_ready") texts.not_ready = `No ready ${state.missing.join(" and no ready ")} node. Texts wait until one is back.`;
  const text = texts[state.kind];
  return (
    <div class="banner-place" role="status">
      {text && <p class={`banner ${STATES[state.kind].tone}`}><span class="spinner" aria-hidden="true" /> {text}</p>}
    </div>
  );
}

connection.start();
void session.begin();
connection.onRecovery(() => void session.refresh());
render(<App />, document.getElementById("app")!);
