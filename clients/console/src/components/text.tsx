//! Shows texts of unknown origin. They become text nodes only.

import { controlCode, controlName, pieces, type Mark } from "../lib/text";

/** Shows a short text, such as a name, in one line. */
export function Inert({ text, class: name = "" }: { text: string; class?: string }) {
  return <bdi class={`inert ${name}`}>{visible(text)}</bdi>;
}

/** Shows a long text with marked ranges, which must be in order and not overlap. */
export function Prose({ text, marks = [] }: { text: string; marks?: Mark[] }) {
  const parts = [];
  let end = 0;
  for (const mark of marks) {
    parts.push(visible(text.slice(end, mark.start)));
    const content = visible(text.slice(mark.start, mark.end));
    if (mark.kind === "corrected") parts.push(<mark class="corrected" title="corrected token">{content}</mark>);
    else if (mark.kind === "added") parts.push(<ins>{content}</ins>);
    else parts.push(<del>{content}</del>);
    end = mark.end;
  }
  parts.push(visible(text.slice(end)));
  return <span class="prose" dir="auto">{parts}</span>;
}

function visible(text: string) {
  return pieces(text).map((piece) => {
    if (piece.kind === "text") return piece.text;
    const name = `${controlCode(piece.code)} ${controlName(piece.code)}`;
    const times = piece.count > 1 ? ` ×${piece.count}` : "";
    return <span class="control" title={name + times}>{controlCode(piece.code) + times}</span>;
  });
}
