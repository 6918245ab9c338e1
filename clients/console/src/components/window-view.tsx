//! Text of a window, decoded on demand, with its corrected tokens marked.

import { useState } from "preact/hooks";

import * as format from "../lib/format";
import { diff } from "../lib/diff";
import { readDraft } from "../lib/drafts";
import type { Window } from "../lib/latents";
import type { Mark } from "../lib/text";
import { readWindowText, type WindowText } from "../lib/window-text";
import { ErrorNote, Segments, useLoad, Waiting } from "./basic";
import { Icon } from "./icons";
import { Prose } from "./text";

export function WindowView({ id, window }: { id: string; window: Window }) {
  const text = useLoad((signal) => readWindowText(id, window, signal), [id, window]);
  const draft = useLoad((signal) => readDraft(id, window.index, signal), [id, window]);
  const value = text.value;
  return (
    <article class="window" aria-label={`Window ${window.index + 1}`}>
      <header>
        <h3>Window {format.count(window.index + 1)}</h3>
        <p class="muted number">bytes {format.count(window.start)} to {format.count(window.end)} · {format.plural(window.tokens, "token")} in {format.plural(window.latents, "latent")} · {window.ratio}x</p>
        {value && (value.isProved
          ? <p class="proved"><Icon name="check" /> Hash proved</p>
          : <p class="bad-text"><Icon name="alert" /> The hash of this text is not the stored one</p>)}
      </header>
      {text.error !== null ? <ErrorNote error={text.error} retry={text.reload} /> : null}
      {!value && text.error === null ? <Waiting label="Decoding the window" lines={8} /> : null}
      {value ? <MarkedText window={window} text={value} draft={draft.value} /> : null}
      {draft.error !== null ? <ErrorNote error={draft.error} retry={draft.reload} /> : null}
    </article>
  );
}

type View = "corrected" | "changes" | "draft";

const LEGENDS = {
  changes: <><del>written by the decoder alone</del> <ins>after corrections</ins></>,
  draft: "What the decoder writes without corrections",
  corrected: <>The exact text, with <mark class="corrected">corrected tokens</mark></>,
};

/** Shows a text with corrections, and what the decoder wrote alone if the draft is known. */
export function MarkedText({ window, text, draft }: { window: Window; text: Omit<WindowText, "isProved">; draft: string | null }) {
  const [view, setView] = useState<View>("changes");
  const corrections = window.corrections?.length ?? 0;
  const shown: View = draft === null ? "corrected" : view;
  return (
    <>
      {draft !== null && (
        <div class="views">
          <Segments<View>
            label="Text"
            value={shown}
            onChange={setView}
            options={[
              { name: "changes", label: "Changes" },
              { name: "draft", label: "Decoder alone" },
              { name: "corrected", label: "Corrected" },
            ]}
          />
          <p class="hint">{LEGENDS[shown]}</p>
        </div>
      )}
      <div class="text" tabIndex={0} role="group" aria-label={`Text of window ${window.index + 1}`}>
        {shown === "corrected" && <Prose text={text.text} marks={text.marks} />}
        {shown === "changes" && <Changes draft={draft!} text={text.text} />}
        {shown === "draft" && <Prose text={draft!} />}
      </div>
      {window.corrections === null && <p class="hint">This window was not verified, so it has no corrections.</p>}
      {text.located < corrections && (
        <p class="hint">
          {format.count(text.located)} of {format.plural(corrections, "corrected token")} are marked. The place of the others
          in the text is unknown here, because the model has another vocabulary or a token crosses the edge of the window.
        </p>
      )}
    </>
  );
}

function Changes({ draft, text }: { draft: string; text: string }) {
  let joined = "";
  const marks: Mark[] = [];
  for (const edit of diff(draft, text)) {
    if (edit.kind !== "same") marks.push({ start: joined.length, end: joined.length + edit.text.length, kind: edit.kind });
    joined += edit.text;
  }
  return <Prose text={joined} marks={marks} />;
}
