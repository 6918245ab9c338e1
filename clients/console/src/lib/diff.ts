//! Differences between two texts, by words (Myers' algorithm).

export interface Edit {
  kind: "same" | "removed" | "added";
  text: string;
}

/** Maximum edits that are searched for. Texts that differ more are shown as two. */
const EDITS_MAX = 1500;

/** Returns the edits that turn `before` into `after`. */
export function diff(before: string, after: string): Edit[] {
  const [a, b] = [words(before), words(after)];
  const trace: Int32Array[] = [];
  const limit = Math.min(a.length + b.length, EDITS_MAX);
  const furthest = new Int32Array(2 * limit + 3);
  const at = (k: number) => k + limit + 1;
  for (let d = 0; d <= limit; d += 1) {
    trace.push(furthest.slice(at(-d) - 1, at(d) + 2));
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && furthest[at(k - 1)]! < furthest[at(k + 1)]!);
      let x = down ? furthest[at(k + 1)]! : furthest[at(k - 1)]! + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      furthest[at(k)] = x;
      if (x >= a.length && x - k >= b.length) return backtrack(a, b, trace);
    }
  }
  return [
    { kind: "removed", text: before },
    { kind: "added", text: after },
  ];
}

function words(text: string): string[] {
  return text.match(/\p{L}+|\p{N}|\s|[^\p{L}\p{N}\s]/gu) ?? [];
}

function backtrack(a: string[], b: string[], trace: Int32Array[]): Edit[] {
  const edits: Edit[] = [];
  let [x, y] = [a.length, b.length];
  for (let d = trace.length - 1; d >= 0; d -= 1) {
    const row = trace[d]!;
    // The row begins at diagonal -d - 1.
    const value = (k: number) => row[k + d + 1]!;
    const k = x - y;
    const down = k === -d || (k !== d && value(k - 1) < value(k + 1));
    const previous = down ? k + 1 : k - 1;
    const startX = d === 0 ? 0 : value(previous);
    const startY = d === 0 ? 0 : startX - previous;
    const sameFrom = d === 0 ? 0 : down ? startX : startX + 1;
    while (x > sameFrom) {
      edits.push({ kind: "same", text: a[--x]! });
      y -= 1;
    }
    if (d > 0) {
      edits.push(down ? { kind: "added", text: b[startY]! } : { kind: "removed", text: a[startX]! });
      [x, y] = [startX, startY];
    }
  }
  return joined(edits.reverse());
}

/** Joins neighbours of a kind. */
function joined(edits: Edit[]): Edit[] {
  const result: Edit[] = [];
  for (const edit of edits) {
    const last = result.at(-1);
    if (last?.kind === edit.kind) last.text += edit.text;
    else result.push({ ...edit });
  }
  return result;
}
