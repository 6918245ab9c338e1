//! A document: its numbers, windows and text, downloads, names, labels and deletion.

import { useEffect, useState } from "preact/hooks";

import { announce, Copy, Empty, ErrorNote, Stat, useLoad, Waiting } from "../components/basic";
import { DeleteDialog, LabelsDialog, NamesDialog } from "../components/document-dialogs";
import { HeatMap } from "../components/heat-map";
import { Icon } from "../components/icons";
import { Inert } from "../components/text";
import { WindowView } from "../components/window-view";
import { call, describe, documentPath, isAborted, json, Problem, type Document } from "../lib/api";
import * as format from "../lib/format";
import { hasher } from "../lib/hash";
import { readWindows, type Window } from "../lib/latents";
import { namesOf } from "../lib/names";
import { nameReference, useNamespace } from "../lib/namespace";
import { address, navigate, replaceQuery, route } from "../lib/router";
import { session } from "../lib/session";
import { useStore } from "../lib/store";

export function DocumentPage({ reference }: { reference: string }) {
  const document = useLoad((signal) => json<Document>(documentPath(reference), { signal }), [reference]);
  const id = document.value?.id ?? null;
  const namespace = useNamespace();
  const names = useLoad(async (signal) => (id ? namesOf(id, namespace, signal) : []), [id, namespace]);
  if (document.error instanceof Problem && document.error.status === 404) {
    return (
      <Empty title="There is no such document">
        <p>It may have been deleted, or it has expired. <a href={address("/documents")}>All documents</a></p>
      </Empty>
    );
  }
  return (
    <>
      <p class="crumb"><a href={address("/documents")}><Icon name="left" /> Documents</a></p>
      {document.error !== null ? <ErrorNote error={document.error} retry={document.reload} /> : null}
      {!document.value && document.error === null ? <Waiting label="Reading the document" lines={8} /> : null}
      {document.value ? (
        <Content
          document={document.value}
          namespace={namespace}
          names={names.value ?? []}
          reload={() => (document.reload(), names.reload())}
        />
      ) : null}
    </>
  );
}

type OpenDialog = "names" | "labels" | "delete" | null;

interface ContentProps {
  document: Document;
  namespace: string;
  /** Names in the namespace. */
  names: string[];
  reload: () => void;
}

function Content({ document, namespace, names, reload }: ContentProps) {
  const [dialog, setDialog] = useState<OpenDialog>(null);
  const close = (isChanged: boolean) => {
    setDialog(null);
    if (isChanged) reload();
  };
  const title = names[0] ?? `${document.id.slice(0, 16)}…`;
  const file = (names[0] ?? document.id.slice(0, 16)).replaceAll("/", "-");
  return (
    <>
      <div class="page-head document-head">
        <div>
          <h1><Inert text={title} /></h1>
          <p class="id"><code>{document.id}</code> <Copy text={document.id} label="Copy the id" /></p>
          <p class="labels">
            {names.slice(1).map((name) => <span class="label" key={name}><Inert text={nameReference(namespace, name)} /></span>)}
            {Object.entries(document.labels ?? {}).map(([key, value]) => <span class="label" key={key}><Inert text={`${key}=${value}`} /></span>)}
          </p>
        </div>
        <div class="actions">
          <a class="button" href={documentPath(document.id, "/text")} download={`${file}.txt`}><Icon name="download" /> Text</a>
          <a class="button" href={documentPath(document.id, "/latents")} download={`${file}.safetensors`}><Icon name="download" /> Latents</a>
          {session.may("write") && <button type="button" onClick={() => setDialog("names")}><Icon name="edit" /> Names</button>}
          {session.may("write") && <button type="button" onClick={() => setDialog("labels")}>Labels</button>}
          {session.may("delete") && <button type="button" class="danger" onClick={() => setDialog("delete")}><Icon name="trash" /> Delete</button>}
        </div>
      </div>
      <section class="panel" aria-label="Numbers">
        <dl class="stats wide">
          <Stat label="Text" value={format.bytes(document.bytes)} hint={format.plural(document.tokens, "token")} />
          <Stat label="Latents" value={format.count(document.latents)} hint={`${format.ratio(document.ratio)}, ${document.codec}`} />
          <Stat label="Fidelity" value={format.fidelity(document.fidelity)} hint="right without corrections" tone={document.verified ? undefined : "warn"} />
          <Stat label="Corrections" value={document.corrections === null ? "–" : format.count(document.corrections)} hint={document.exact_windows === null ? undefined : `${format.count(document.exact_windows)} of ${format.plural(document.windows, "window")} exact without`} />
          <Stat label="Stored" value={format.bytes(document.stored_bytes)} hint={`${(document.stored_bytes / Math.max(1, document.bytes)).toFixed(1)} × the text`} />
          <Stat label="Created" value={format.date(document.created)} hint={document.expires ? `expires ${format.date(document.expires)}` : document.cascade} />
        </dl>
      </section>
      <Windows document={document} />
      <Proof document={document} />
      {dialog === "names" && <NamesDialog id={document.id} namespace={namespace} onClose={close} />}
      {dialog === "labels" && <LabelsDialog id={document.id} onClose={close} />}
      {dialog === "delete" && (
        <DeleteDialog
          id={document.id}
          title={title}
          bytes={document.bytes}
          onClose={(isDeleted) => {
            setDialog(null);
            if (!isDeleted) return;
            announce("Document deleted");
            navigate("/documents");
          }}
        />
      )}
    </>
  );
}

function Windows({ document }: { document: Document }) {
  const header = useLoad((signal) => readWindows(document.id, signal), [document.id, document.ratio, document.latents]);
  const { query } = useStore(route);
  const windows = header.value?.windows ?? null;
  const wanted = Number(query.get("window"));
  const selected = windows && query.has("window") ? Math.min(windows.length, Math.max(1, Math.floor(wanted) || 1)) - 1 : null;
  const select = (index: number) => replaceQuery("window", String(index + 1));
  return (
    <section class="panel" aria-labelledby="windows-title">
      <div class="panel-head">
        <h2 id="windows-title">Windows</h2>
        {windows && windows.length > 0 ? <Steps windows={windows} selected={selected} onSelect={select} /> : null}
      </div>
      <p class="muted">
        Each cell is a window, a part of the text that was turned into one group of latents. A strong colour means that the
        decoder alone would get many tokens wrong there.
      </p>
      {header.error !== null ? <ErrorNote error={header.error} retry={header.reload} /> : null}
      {windows === null && header.error === null ? <Waiting label="Reading the windows" lines={2} /> : null}
      {windows?.length === 0 ? <Empty title="The text is empty" /> : null}
      {windows && windows.length > 0 ? (
        <>
          <HeatMap windows={windows} selected={selected} onSelect={select} />
          {selected === null ? null : <WindowView key={selected} id={document.id} window={windows[selected]!} />}
        </>
      ) : null}
    </section>
  );
}

interface StepsProps {
  windows: Window[];
  selected: number | null;
  onSelect: (index: number) => void;
}

function Steps({ windows, selected, onSelect }: StepsProps) {
  const worst = windows.reduce((a, b) => ((b.corrections?.length ?? 0) > (a.corrections?.length ?? 0) ? b : a));
  const at = selected ?? -1;
  return (
    <div class="steps">
      <button type="button" class="icon-button" aria-label="Previous window" disabled={at <= 0} onClick={() => onSelect(at - 1)}><Icon name="left" /></button>
      <span class="number">{selected === null ? "–" : format.count(selected + 1)} of {format.count(windows.length)}</span>
      <button type="button" class="icon-button" aria-label="Next window" disabled={at >= windows.length - 1} onClick={() => onSelect(at + 1)}><Icon name="right" /></button>
      <button type="button" onClick={() => onSelect(worst.index)}>Most corrections</button>
    </div>
  );
}

type ProofState =
  | { kind: "idle" }
  | { kind: "running"; bytes: number }
  | { kind: "done"; hash: string; seconds: number }
  | { kind: "failed"; error: unknown };

/** Reads the whole text and compares its hash, computed here, with the id. */
function Proof({ document }: { document: Document }) {
  const [state, setState] = useState<ProofState>({ kind: "idle" });
  const [abort, setAbort] = useState<AbortController | null>(null);
  useEffect(() => () => abort?.abort(), [abort]);
  const run = async () => {
    const abort = new AbortController();
    setAbort(abort);
    setState({ kind: "running", bytes: 0 });
    const begin = performance.now();
    try {
      const state = (await hasher()).begin();
      const response = await call(documentPath(document.id, "/text"), { signal: abort.signal, cache: "no-store" });
      const reader = response.body!.getReader();
      let bytes = 0;
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        state.update(part.value);
        bytes += part.value.length;
        setState({ kind: "running", bytes });
      }
      setState({ kind: "done", hash: state.end(), seconds: (performance.now() - begin) / 1000 });
    } catch (error) {
      setState(isAborted(error) ? { kind: "idle" } : { kind: "failed", error });
    }
  };
  return (
    <section class="panel proof" aria-labelledby="proof-title">
      <div class="panel-head">
        <h2 id="proof-title">Proof</h2>
        {state.kind === "running"
          ? <button type="button" onClick={() => abort?.abort()}>Stop</button>
          : <button type="button" onClick={run}><Icon name="shield" /> Decode all and compare</button>}
      </div>
      <p class="muted">
        The id is the BLAKE3 hash of the text. This decodes the whole text, hashes it in your browser and compares the two.
      </p>
      <div role="status">
        {state.kind === "running" && (
          <p class="with-meter">
            <progress max={document.bytes} value={state.bytes} aria-label="Decoded bytes" /> {format.bytes(state.bytes)} of {format.bytes(document.bytes)}
          </p>
        )}
        {state.kind === "done" && (state.hash === document.id ? (
          <p class="proved"><Icon name="check" /> Proved in {format.seconds(state.seconds)}: the restored text has the hash <code>{state.hash.slice(0, 16)}…</code></p>
        ) : (
          <p class="bad-text"><Icon name="alert" /> The restored text has another hash: <code>{state.hash}</code></p>
        ))}
        {state.kind === "failed" && <p class="bad-text"><Icon name="alert" /> {describe(state.error)}</p>}
      </div>
    </section>
  );
}
