//! Dialogs that change a document: its name, its labels, and its deletion.

import { useState } from "preact/hooks";

import { call, describe, documentPath, json, namePath, Problem, send } from "../lib/api";
import * as format from "../lib/format";
import { session } from "../lib/session";
import { announce, Dialog, ErrorNote, useLoad, Waiting } from "./basic";
import { Icon } from "./icons";
import { Inert } from "./text";

const NAMESPACE = "default";

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
  return { problem, isBusy, run };
}

/** Gives a document a name, in place of its first one. */
export function NameDialog({ id, names, onClose }: DialogProps & { names: string[] }) {
  const [name, setName] = useState(names[0] ?? "");
  const change = useChange(() => (announce("Name changed"), onClose(true)));
  const save = async () => {
    const old = names[0];
    if (name === old) return;
    // A name of another document is never taken over.
    await send("PUT", namePath(NAMESPACE, name), { id }, { "if-none-match": "*" }).catch((error) => {
      if (error instanceof Problem && error.status === 412) throw new Error("another document has this name; choose another one");
      throw error;
    });
    if (old !== undefined && session.may("delete")) await call(namePath(NAMESPACE, old), { method: "DELETE" });
  };
  const submit = (event: Event) => {
    event.preventDefault();
    if (name.trim() === "") return;
    void change.run(save);
  };
  return (
    <Dialog title={names.length > 0 ? "Rename the document" : "Name the document"} onClose={() => onClose(false)}>
      <form onSubmit={submit}>
        <label for="name">Name</label>
        <input id="name" value={name} spellcheck={false} autocomplete="off" autoFocus aria-describedby="name-help name-problem" onInput={(event) => setName(event.currentTarget.value)} />
        <p id="name-help" class="hint">Letters, digits, <code>.</code> <code>_</code> <code>-</code> and <code>/</code>. Programs find the document as <code>@{name || "NAME"}</code>.</p>
        <p id="name-problem" class="field-problem" role="alert">{change.problem}</p>
        <Buttons isBusy={change.isBusy} action="Save" onCancel={() => onClose(false)} />
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
