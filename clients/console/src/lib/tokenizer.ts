//! The tokenizer of the default model, which finds the bytes of corrected tokens.
//!
//! It is a byte-level BPE. Instead of a list of merges, it uses that the training numbered the tokens in the order in
//! which it made them: of all adjacent pairs, the one that makes the token with the lowest id is merged first.

/** Pieces of a text that are tokenized separately, as in GPT-2, with each digit on its own. */
const PIECES = /\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

export class Tokenizer {
  private readonly ids = new Map<string, number>();
  private readonly alphabet = byteAlphabet();
  private readonly cache = new Map<string, number[]>();

  private constructor(private readonly tokens: string[]) {
    tokens.forEach((token, id) => this.ids.set(token, id));
  }

  /** Loads the vocabulary. */
  static async load(): Promise<Tokenizer> {
    return new Tokenizer((await import("virtual:vocabulary")).default);
  }

  /** Returns the ids of the text's tokens. */
  encode(text: string): number[] {
    const ids: number[] = [];
    // A digit also ends a run of spaces before it.
    for (const part of text.split(/(\p{N})/u)) {
      for (const [piece] of part.matchAll(PIECES)) for (const id of this.encodePiece(piece)) ids.push(id);
    }
    return ids;
  }

  /** Returns the number of bytes that a token stands for. */
  byteLength(id: number): number {
    return this.tokens[id]!.length;
  }

  private encodePiece(piece: string): number[] {
    const known = this.cache.get(piece);
    if (known) return known;
    const bytes = new TextEncoder().encode(piece);
    const symbols = Array.from(bytes, (byte) => this.alphabet[byte]!);
    while (symbols.length > 1) {
      let best = -1;
      let bestId = Infinity;
      for (let i = 0; i + 1 < symbols.length; i += 1) {
        const id = this.ids.get(symbols[i]! + symbols[i + 1]!);
        if (id !== undefined && id < bestId) [best, bestId] = [i, id];
      }
      if (best < 0) break;
      symbols.splice(best, 2, symbols[best]! + symbols[best + 1]!);
    }
    const ids = symbols.map((symbol) => this.ids.get(symbol) ?? 0);
    this.cache.set(piece, ids);
    return ids;
  }
}

/** Returns the printable character that stands for each byte in vocabularies of GPT-2's kind. */
function byteAlphabet(): string[] {
  const isPrintable = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
}

/** Byte range in a text. */
export interface Span {
  start: number;
  end: number;
}

/** Positions by which the tokens of a window alone may differ from those of its shard, at its beginning. */
const SHIFTS = [0, 1, -1, 2, -2, 3, -3];

/**
 * Returns the byte ranges of corrected tokens in the text of a window.
 *
 * The corrections have the ids of the right tokens, so each range is checked. A token that is elsewhere or differs,
 * because the model has another vocabulary, is left out.
 */
export function locate(tokenizer: Tokenizer, text: string, corrections: [number, number][]): Span[] {
  const ids = tokenizer.encode(text);
  const starts = [0];
  for (const id of ids) starts.push(starts.at(-1)! + tokenizer.byteLength(id));
  let shift = 0;
  return corrections.flatMap(([position, token]) => {
    const found = [shift, ...SHIFTS].find((shift) => ids[position + shift] === token);
    if (found === undefined) return [];
    shift = found;
    return [{ start: starts[position + shift]!, end: starts[position + shift + 1]! }];
  });
}
