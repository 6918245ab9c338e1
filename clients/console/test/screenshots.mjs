// Takes the pictures of README.md and of the guides from a running gateway, into which it puts texts of its own.
//
//   node test/screenshots.mjs --url http://127.0.0.1:PORT --c3 PATH_OF_C3 --out FOLDER [--chromium PATH]
//       [--console http://127.0.0.1:7380]
//
// With --console, it opens the console that `npm run preview` serves instead of the one in the gateway.
// `just screenshots` starts a gateway for it. Needs Chromium, and `script` of util-linux.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const TEXTS = resolve(import.meta.dirname, "../../../tests/fixtures/texts");
const WIDTH = 1200;
/** Maximum bytes of a picture, and of all. */
const PICTURE_BYTES_MAX = 80_000;
const ALL_BYTES_MAX = 400_000;
/** Time for which the overview watches the load. Its charts show two minutes. */
const LOAD_MS = 100_000;
const LOAD_TASKS = 2;
/** Time after which the curves of `c3 top` have some points. */
const TOP_MS = 25_000;
const LONG_MS = 300_000;

/** A terminal whose characters fill the width of a picture. */
const COLUMNS = 100;
const ROWS = 18;
const FONT_PX = 19;
const PADDING_PX = 26;
const COLORS = {
  background: "#10131a",
  foreground: "#d7dbe2",
  cursor: "#10131a",
  green: "#4fc98b",
  red: "#ff8a80",
  yellow: "#e8b04a",
  blue: "#7ea6ff",
  magenta: "#b58cf5",
  cyan: "#58c4dc",
  brightBlack: "#7d8693",
};
const PROMPT = "\x1b[32m$\x1b[0m ";

const { values } = parseArgs({
  options: {
    url: { type: "string", default: "http://127.0.0.1:7300" },
    console: { type: "string" },
    c3: { type: "string" },
    out: { type: "string", default: "out" },
    chromium: { type: "string", default: process.env.CHROMIUM ?? "/usr/bin/chromium" },
  },
});
if (!values.c3) throw new Error("--c3 is missing: give the path of the program c3");

const home = mkdtempSync(join(tmpdir(), "c3-screenshots-"));
const browser = await chromium.launch({ executablePath: values.chromium, args: ["--headless", "--no-sandbox", "--disable-gpu"] });
const pictures = new Map();
mkdirSync(values.out, { recursive: true });
try {
  await terminalPicture();
  await documentPicture();
  await tryPicture();
  await loadPictures();
} finally {
  await browser.close();
  rmSync(home, { recursive: true });
}
let total = 0;
for (const [name, { bytes, quality }] of pictures) {
  console.log(`${name}  ${bytes} bytes, quality ${quality}`);
  total += bytes;
}
if (total > ALL_BYTES_MAX) throw new Error(`the pictures have ${total} bytes, at most ${ALL_BYTES_MAX} are allowed`);

/** Stores a text, reads a part of it, and compares the whole with the file. */
async function terminalPicture() {
  const commands = [
    "c3 put essay.txt --name essay --label lang=en",
    "c3 get @essay --range 0..173",
    "c3 get @essay | cmp - essay.txt && echo identical",
    "c3 ls --name-prefix essay",
  ];
  const parts = [];
  for (const command of commands) parts.push(`${PROMPT}${command}\r\n${(await run(command)).trimEnd()}\x1b[0m`);
  await terminal("terminal", parts.join("\r\n\r\n"));
}

/** A document whose windows differ, with the window that has the most corrections. */
async function documentPicture() {
  const text = ["essay", "page", "chapter", "news"].map(fixture).join("\n\n");
  const { id } = await put(text, "ratio=50&name=collected-essays&label=lang=en");
  const page = await open(`/documents/${id}`, { scheme: "dark", height: 860 });
  await page.getByRole("button", { name: "Most corrections" }).click();
  await page.locator(".window .proved").waitFor({ timeout: LONG_MS });
  await page.locator(".window .segments").waitFor({ timeout: LONG_MS });
  await page.locator("h1", { hasText: "collected-essays" }).waitFor();
  await capture(page, "console-document");
}

/** The result of a trial: latents, and what the decoder writes with and without corrections. */
async function tryPicture() {
  const page = await open("/try", { height: 860 });
  await page.getByLabel("Text", { exact: true }).fill(fixture("page"));
  await page.locator("#first-ratio").fill("60");
  await page.getByRole("button", { name: "Store and restore" }).click();
  await page.locator(".read-back .segments").last().waitFor({ timeout: LONG_MS });
  await page.locator(".step.compressor").evaluate((step) => scrollTo(0, step.getBoundingClientRect().top + scrollY - 16));
  await capture(page, "console-try");
}

/** The overview and `c3 top` while clients store and read texts. */
async function loadPictures() {
  const abort = new AbortController();
  const load = Promise.all(Array.from({ length: LOAD_TASKS }, (_, task) => work(task, abort.signal)));
  const page = await open("/", { height: 860 });
  await page.locator(".plot canvas").first().waitFor();
  await page.waitForTimeout(LOAD_MS);
  await capture(page, "console-overview");
  await terminal("top", await run("c3 top", { stopAfterMs: TOP_MS }), ROWS);
  abort.abort();
  await load;
}

/** Stores shuffled texts and reads them back, until the signal ends it. */
async function work(task, signal) {
  const names = ["news", "essay", "page"];
  for (let round = 0; !signal.aborted; round += 1) {
    const sentences = fixture(names[(round + task) % names.length]).split(/(?<=[.!?])\s+/);
    // Other orders give other shards, so that nothing is reused.
    const step = 7 + 2 * (round * LOAD_TASKS + task);
    const text = sentences.map((_, index) => sentences[(index * step) % sentences.length]).join(" ");
    const { id } = await put(text, `ratio=${[20, 40][round % 2]}`);
    for (let reads = 0; reads < 2 && !signal.aborted; reads += 1) await (await call(`/v1/documents/${id}/text`)).text();
  }
}

function fixture(name) {
  return readFileSync(join(TEXTS, `${name}.txt`), "utf8");
}

async function call(path, options) {
  const response = await fetch(values.url + path, options);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response;
}

async function put(text, query) {
  const headers = { "content-type": "text/plain; charset=utf-8" };
  return (await call(`/v1/documents?${query}`, { method: "PUT", headers, body: text })).json();
}

/** Runs a command in a pseudo terminal, in the folder of the texts. Returns what it wrote. */
function run(command, { stopAfterMs = null } = {}) {
  const env = {
    PATH: `${dirname(resolve(values.c3))}${delimiter}${process.env.PATH}`,
    HOME: home,
    LANG: "C.UTF-8",
    TERM: "xterm-256color",
    COLORTERM: "truecolor",
    C3_GATEWAY: values.url,
  };
  const sized = `stty cols ${COLUMNS} rows ${ROWS}; ${command}`;
  const child = spawn("script", ["-qefc", sized, "/dev/null"], { cwd: TEXTS, env, stdio: ["pipe", "pipe", "inherit"] });
  const parts = [];
  let isStopped = false;
  child.stdout.on("data", (part) => isStopped || parts.push(part));
  if (stopAfterMs !== null) {
    setTimeout(() => {
      // What the program writes when it ends clears the screen.
      isStopped = true;
      child.stdin.end("q");
    }, stopAfterMs);
  }
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      const output = Buffer.concat(parts).toString();
      if (code === 0) resolve(output);
      else reject(new Error(`${command}: exit code ${code}: ${output.slice(-300)}`));
    });
  });
}

/** Draws what programs wrote to a terminal. Without `rows`, the terminal is as high as its content. */
async function terminal(name, output, rows = null) {
  const page = await newPage({ height: 2000, scheme: "dark" });
  const file = (path) => createRequire(import.meta.url).resolve(`@xterm/xterm/${path}`);
  await page.setContent(`<body style="margin:0;background:${COLORS.background}"><div id="frame" style="padding:${PADDING_PX}px"><div id="terminal"></div></div>`);
  await page.addStyleTag({ path: file("css/xterm.css") });
  await page.addScriptTag({ path: file("lib/xterm.js") });
  await page.evaluate(
    async ({ output, rows, columns, theme, size }) => {
      const terminal = new window.Terminal({
        cols: columns,
        rows: rows ?? 100,
        fontFamily: "DejaVu Sans Mono, Liberation Mono, monospace",
        fontSize: size,
        // Frames of programs that fill the screen need lines without gaps.
        lineHeight: rows === null ? 1.2 : 1,
        theme,
        cursorInactiveStyle: "none",
        scrollback: 0,
      });
      terminal.open(document.getElementById("terminal"));
      await new Promise((resolve) => terminal.write(output, resolve));
      if (rows === null) terminal.resize(columns, terminal.buffer.active.cursorY + 1);
      await new Promise((resolve) => setTimeout(resolve, 500));
    },
    { output, rows, columns: COLUMNS, theme: COLORS, size: FONT_PX },
  );
  const { height } = await page.locator("#frame").boundingBox();
  await capture(page, name, Math.ceil(height));
}

async function newPage({ height, scheme = "light" }) {
  const context = await browser.newContext({ viewport: { width: WIDTH, height }, colorScheme: scheme, locale: "en-GB", reducedMotion: "reduce" });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  return page;
}

/** Opens a page of the console. */
async function open(path, options) {
  const page = await newPage(options);
  await page.goto(`${values.console ?? values.url}/console${path}`);
  return page;
}

/** Saves the page as WebP, with the highest quality that fits into the maximum size, and closes it. */
async function capture(page, name, height = page.viewportSize().height) {
  const client = await page.context().newCDPSession(page);
  const clip = { x: 0, y: await page.evaluate(() => scrollY), width: WIDTH, height, scale: 1 };
  for (let quality = 90; quality >= 30; quality -= 5) {
    const { data } = await client.send("Page.captureScreenshot", { format: "webp", quality, clip });
    const bytes = Buffer.from(data, "base64");
    if (bytes.length > PICTURE_BYTES_MAX) continue;
    const file = join(values.out, `${name}.webp`);
    writeFileSync(file, bytes);
    pictures.set(file, { bytes: bytes.length, quality });
    return page.context().close();
  }
  throw new Error(`the picture ${name} is larger than ${PICTURE_BYTES_MAX} bytes with any quality`);
}
