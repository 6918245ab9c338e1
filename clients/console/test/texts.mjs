// Texts and responses for the scenarios.

const SENTENCES = [
  "The river was low that summer, and the boats lay on the mud like sleeping animals.",
  "Nobody in the village could remember when the clock on the tower had stopped.",
  "She counted the steps to the door, as she had done every evening since the war.",
  "In the kitchen the kettle began to sing, and the cat opened one yellow eye.",
  "He had written three letters to the ministry and received no answer to any of them.",
  "Rain came at last in the night, first on the roofs, then on the dry gardens.",
  "The old map showed a road through the forest, but the forest had closed over it.",
  "When the train left the station, the platform was empty except for a single glove.",
];

/** Returns paragraphs of plain English, others for each seed. */
export function prose(paragraphs, seed = 1) {
  let state = seed >>> 0;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 8;
  const paragraph = () => Array.from({ length: 4 }, () => SENTENCES[next() % SENTENCES.length]).join(" ");
  return Array.from({ length: paragraphs }, paragraph).join("\n\n");
}

/** Returns a text of 1 MB. It repeats itself, so that the gateway computes few shards and reuses them. */
export function bigText({ isOneLine = false } = {}) {
  const part = isOneLine ? `${prose(24, 5).replaceAll("\n", " ")} ` : `${prose(24, 7)}\n\n`;
  return part.repeat(Math.ceil(1_000_000 / part.length));
}

/** Returns a text that attacks whatever shows it. */
export function hostileText() {
  return [
    '<script>pwned=1</script><img src=x onerror="pwned=1"><svg onload=pwned=1><style>*{display:none}</style>',
    '"><iframe srcdoc="<script>parent.pwned=1</script>"></iframe> {{constructor.constructor("pwned=1")()}}',
    "Overrides: \u202egnp.exe\u202c, isolates: \u2066abc\u2069, marks: \u200f\u200e, zero width: a\u200bb",
    "NUL: \u0000\u0000\u0000, escape: \u001b[31mred, bell: \u0007, delete: \u007f, mark: \ufeff",
    "Emoji: \u{1f468}\u200d\u{1f469}\u200d\u{1f467} \u{1f1e9}\u{1f1ea} \u{1f480}, Arabic: \u0645\u0631\u062d\u0628\u0627, Hebrew: \u05e9\u05dc\u05d5\u05dd",
    `Combining: Z${"\u0300\u0301\u0302\u0303".repeat(12)}algo`,
    "",
  ].join("\n");
}

const PAGE = 1000;

function pageOf(count, url) {
  const start = Number(new URL(url).searchParams.get("cursor") ?? 0);
  const numbers = Array.from({ length: Math.min(PAGE, count - start) }, (_, index) => start + index);
  return { numbers, next_cursor: start + PAGE < count ? String(start + PAGE) : null };
}

const id = (number) => (Math.imul(number + 1, 2654435761) >>> 0).toString(16).padStart(8, "0").repeat(8);

/** Returns a page of a list of documents, as the gateway does. */
export function listPage(count, url) {
  const { numbers, next_cursor } = pageOf(count, url);
  const documents = numbers.map((number) => ({
    id: id(number),
    bytes: 1000 + number * 37,
    tokens: 300 + number * 11,
    latents: 15 + number,
    ratio: [20, 40, 60, 0][number % 4],
    codec: "q4_0",
    fidelity: 1 - (number % 97) / 1000,
    corrections: number % 97,
    exact_windows: 1,
    windows: 1 + (number % 30),
    verified: true,
    stored_bytes: 5000 + number * 100,
    cascade: "c3-mini",
    created: new Date(Date.UTC(2026, 0, 1) + number * 60_000).toISOString(),
    labels: { lang: number % 3 === 0 ? "en" : "de", kind: "report" },
  }));
  return { documents, damaged: [], next_cursor };
}

/** Returns a page of the names of these documents. */
export function namesPage(count, url) {
  const { numbers, next_cursor } = pageOf(count, url);
  const names = numbers.map((number) => ({
    namespace: "default",
    name: `reports/report-${number}`,
    id: id(number),
    token: "0",
    changed: "2026-01-01T00:00:00Z",
  }));
  return { names, damaged: [], next_cursor };
}
