//! Dialogs that change a document: its names, its labels, and its deletion.

import { useRef, useState } from "preact/hooks";

import { call, describe, documentPath, json, send } from "../lib/api";
import * as format from "../lib/format";
import { addName, namesOf, removeName, renameDocument } from "../lib/names";
import { DEFAULT_NAMESPACE, nameReference } from "../lib/namespace";
import { session } from "../lib/session";
import { announce, Dialog, ErrorNote, useLoad, Waiting } from "./basic";
import { Icon } from "./icons";
import { Inert } from "./text";

interface DialogProps {
  id: string;
  onClose: (isChanged: boolean) => void;
}

/** Returns a function that runs a change, and the state of it. */
function useChange(onDone: () => void) {
  const [problem, setProblem] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const run = async (change: () => Promise<unknown>) => {
    setBusy(true);
    setProblem(null);
    try {
      await change();
      onDone();
    } catch (error) {
      setProblem(describe(error));
    }
    setBusy(false);
  };
  return { problem, isBusy, run, clear: () => setProblem(null) };
}

interface NamesDialogProps extends DialogProps {
  namespace: string;
}

/** Lists the names of a document in a namespace; adds, renames and removes them. */
export function NamesDialog({ id, namespace, onClose }: NamesDialogProps) {
  const names = useLoad((signal) => namesOf(id, namespace, signal), [id, namespace]);
  const [isChanged, setChanged] = useState(false);
  const [name, setName] = useState("");
  /** Name that is being renamed. */
  const [renamed, setRenamed] = useState<string | null>(null);
  const input = useRef<HTMLInputElement>(null);
  const change = useChange(() => edit(null));
  const edit = (old: string | null) => {
    change.clear();
    setRenamed(old);
    setName(old ?? "");
    input.current?.focus();
  };
  const run = (make: () => Promise<void>, done: string) =>
    change.run(async () => {
      try {
        await make();
        announce(done);
      } finally {
        // A rename that failed may have added the new name.
        setChanged(true);
        names.reload();
      }
    });
  const submit = (event: Event) => {
    event.preventDefault();
    const wanted = name.trim();
    if (wanted === "") return;
    if (renamed === null) void run(() => addName(id, namespace, wanted), "Name added");
    else if (renamed === wanted) edit(null);
    else void run(() => renameDocument(id, namespace, renamed, wanted), "Name changed");
  };
  const mayRemove = session.may("delete");
  return (
    <Dialog title="Names" onClose={() => onClose(isChanged)}>
      {namespace !== DEFAULT_NAMESPACE && <p class="muted">In the namespace <Inert text={namespace} /></p>}
      {names.error !== null ? <ErrorNote error={names.error} retry={names.reload} /> : null}
      {!names.value && names.error === null ? <Waiting label="Reading the names" lines={2} /> : null}
      {names.value?.length === 0 ? <p class="muted">The document has no name.</p> : null}
      <ul class="label-list">
        {names.value?.map((name) => (
          <li key={name} class={name === renamed ? "chosen" : ""}>
            <Inert text={name} />
            {mayRemove && (
              <span class="row-actions">
                <button type="button" class="icon-button" aria-label={`Rename ${name}`} disabled={change.isBusy} onClick={() => edit(name)}>
                  <Icon name="edit" />
                </button>
                <button type="button" class="icon-button" aria-label={`Remove the name ${name}`} disabled={change.isBusy} onClick={() => run(() => removeName(id, namespace, name), "Name removed")}>
                  <Icon name="close" />
                </button>
              </span>
            )}
          </li>
        ))}
      </ul>
      {!mayRemove && <p class="hint">Renaming and removing a name needs a key with the scope <code>delete</code>.</p>}
      <form onSubmit={submit}>
        <label for="name">{renamed === null ? "Name" : <>New name for <Inert text={renamed} /></>}</label>
        <input ref={input} id="name" value={name} spellcheck={false} autocomplete="off" autoFocus aria-describedby="name-help name-problem" onInput={(event) => setName(event.currentTarget.value)} />
        <p id="name-help" class="hint">Letters, digits, <code>.</code> <code>_</code> <code>-</code> and <code>/</code>. Programs find the document as <code><Inert text={nameReference(namespace, name.trim() || "NAME")} /></code>.</p>
        <p id="name-problem" class="field-problem" role="alert">{change.problem}</p>
        <Buttons
          isBusy={change.isBusy}
          action={renamed === null ? "Add" : "Rename"}
          cancel={renamed === null ? "Done" : "Keep the name"}
          onCancel={() => (renamed === null ? onClose(isChanged) : edit(null))}
        />
      </form>
    </Dialog>
  );
}

interface Labels {
  labels: Record<string, string>;
  token: string | null;
}

/** Adds and removes labels. */
export function LabelsDialog({ id, onClose }: DialogProps) {
  const path = documentPath(id, "/labels");
  const labels = useLoad((signal) => json<Labels>(path, { signal }), [id]);
  const [isChanged, setChanged] = useState(false);
  const [entry, setEntry] = useState({ key: "", value: "" });
  const change = useChange(() => {
    setChanged(true);
    setEntry({ key: "", value: "" });
    labels.reload();
    announce("Labels changed");
  });
  const patch = (body: Record<string, string | null>) => change.run(() => send("PATCH", path, body));
  const submit = (event: Event) => {
    event.preventDefault();
    if (entry.key !== "") void patch({ [entry.key]: entry.value });
  };
  const list = Object.entries(labels.value?.labels ?? {});
  return (
    <Dialog title="Labels" onClose={() => onClose(isChanged)}>
      {labels.error !== null ? <ErrorNote error={labels.error} retry={labels.reload} /> : null}
      {!labels.value && labels.error === null ? <Waiting label="Reading the labels" lines={2} /> : null}
      {labels.value && list.length === 0 ? <p class="muted">The document has no labels.</p> : null}
      <ul class="label-list">
        {list.map(([key, value]) => (
          <li key={key}>
            <Inert text={`${key} = ${value}`} />
            <button type="button" class="icon-button" aria-label={`Remove the label ${key}`} disabled={change.isBusy} onClick={() => patch({ [key]: null })}>
              <Icon name="close" />
            </button>
          </li>
        ))}
      </ul>
      <form onSubmit={submit}>
        <div class="pair">
          <div>
            <label for="label-key">Key</label>
            <input id="label-key" value={entry.key} spellcheck={false} autocomplete="off" onInput={(event) => setEntry({ ...entry, key: event.currentTarget.value })} />
          </div>
          <div>
            <label for="label-value">Value</label>
            <input id="label-value" value={entry.value} spellcheck={false} autocomplete="off" onInput={(event) => setEntry({ ...entry, value: event.currentTarget.value })} />
          </div>
        </div>
        <p class="field-problem" role="alert">{change.problem}</p>
        <Buttons isBusy={change.isBusy} action="Add" cancel="Done" onCancel={() => onClose(isChanged)} />
      </form>
    </Dialog>
  );
}

/** Asks before a document is deleted. */
export function DeleteDialog({ id, title, bytes, onClose }: DialogProps & { title: string; bytes: number }) {
  const change = useChange(() => onClose(true));
  const submit = (event: Event) => {
    event.preventDefault();
    void change.run(() => call(documentPath(id), { method: "DELETE" }));
  };
  return (
    <Dialog title="Delete this document?" onClose={() => onClose(false)}>
      <form onSubmit={submit}>
        <p><b><Inert text={title} /></b>, {format.bytes(bytes)}. Nobody can read it afterwards, and this cannot be undone.</p>
        <p class="field-problem" role="alert">{change.problem}</p>
        <Buttons isBusy={change.isBusy} action="Delete" isDanger onCancel={() => onClose(false)} />
      </form>
    </Dialog>
  );
}

interface ButtonsProps {
  isBusy: boolean;
  action: string;
  cancel?: string;
  isDanger?: boolean;
  onCancel: () => void;
}

function Buttons({ isBusy, action, cancel = "Cancel", isDanger, onCancel }: ButtonsProps) {
  return (
    <div class="dialog-buttons">
      <button type="button" onClick={onCancel}>{cancel}</button>
      <button type="submit" class={isDanger ? "danger solid" : "primary"} disabled={isBusy}>{action}</button>
    </div>
  );
}
