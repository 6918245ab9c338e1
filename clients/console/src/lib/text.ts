//! Makes texts of unknown origin readable: finds characters that would be invisible or would reorder the text.

/** Characters of a text in UTF-16 units. */
export interface Mark {
  start: number;
  end: number;
  kind: "corrected" | "added" | "removed";
}

export type Piece = { kind: "text"; text: string } | { kind: "control"; code: number; count: number };

/** Control characters, bidirectional controls, zero-width spaces, byte order marks and tags. Emoji need U+200D. */
const CONTROLS =
  /([\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff]|[\u{e0000}-\u{e007f}])\1*/gu;

const NAMES: Record<number, string> = {
  0x00: "null",
  0x07: "bell",
  0x08: "backspace",
  0x0c: "form feed",
  0x0d: "carriage return",
  0x1b: "escape",
  0x7f: "delete",
  0xad: "soft hyphen",
  0x200b: "zero-width space",
  0x200e: "left-to-right mark",
  0x200f: "right-to-left mark",
  0x202a: "left-to-right embedding",
  0x202b: "right-to-left embedding",
  0x202c: "end of a direction change",
  0x202d: "left-to-right override",
  0x202e: "right-to-left override",
  0x2066: "left-to-right isolate",
  0x2067: "right-to-left isolate",
  0x2068: "first strong isolate",
  0x2069: "end of an isolate",
  0xfeff: "byte order mark",
};

/** Splits a text at characters that must be shown as markers. Repeated ones become one piece. */
export function pieces(text: string): Piece[] {
  const result: Piece[] = [];
  let end = 0;
  for (const found of text.matchAll(CONTROLS)) {
    // A carriage return before a line feed is an ordinary end of a line.
    if (found[0] === "\r" && text[found.index + 1] === "\n") continue;
    if (found.index > end) result.push({ kind: "text", text: text.slice(end, found.index) });
    const unit = found[1]!;
    result.push({ kind: "control", code: unit.codePointAt(0)!, count: found[0].length / unit.length });
    end = found.index + found[0].length;
  }
  if (end < text.length) result.push({ kind: "text", text: text.slice(end) });
  return result;
}

export function controlCode(code: number): string {
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

export function controlName(code: number): string {
  return NAMES[code] ?? "invisible character";
}

/** Converts byte ranges of a text to ranges of UTF-16 units. A range that cuts a character includes all of it. */
export function toUnits(text: string, ranges: { start: number; end: number }[]): { start: number; end: number }[] {
  const result: { start: number; end: number }[] = [];
  let [byte, unit, next] = [0, 0, 0];
  for (const { start, end } of ranges) {
    let from = -1;
    while (unit < text.length && byte < end) {
      const code = text.codePointAt(unit)!;
      const size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
      if (from < 0 && byte + size > start) from = unit;
      byte += size;
      unit += code < 0x10000 ? 1 : 2;
    }
    if (from >= 0) result.push({ start: Math.max(from, next), end: unit });
    // The next range may begin inside the last character.
    next = unit;
  }
  return result.filter(({ start, end }) => end > start);
}

/** Bytes of a text in UTF-8. */
export function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}
