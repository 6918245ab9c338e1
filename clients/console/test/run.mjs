// Acceptance of the console in a real browser. Prints one JSON object a line for each measurement.
//
//   node test/run.mjs --url http://127.0.0.1:PORT --out FOLDER [--scenario NAME]... [--chromium PATH]
//       [--key KEY] [--read-key KEY]
//
// Where the gateway has keys, KEY needs all scopes. The scenario `access` also needs a key with the scope `read` only;
// without these keys, it runs only if it is named, and fails.
//
// The scenario `restart` prints `{"event": ...}` lines and waits for the page to show the effect. The caller reacts:
//   kill gateway      kills the gateway
//   start gateway     starts it again on the same port
//   kill node         kills the only decoder node
//   start node        starts it again
// All other scenarios need a running gateway only. The exit status is 1 if a measurement is out of its bound.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

import { SCENARIOS } from "./scenarios.mjs";

const { values } = parseArgs({
  options: {
    url: { type: "string", default: "http://127.0.0.1:7380" },
    out: { type: "string", default: "out" },
    scenario: { type: "string", multiple: true },
    key: { type: "string" },
    "read-key": { type: "string" },
    chromium: { type: "string", default: process.env.CHROMIUM ?? "/usr/bin/chromium" },
  },
});

const ARGUMENTS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
];

const SIZES = {
  desktop: { viewport: { width: 1360, height: 860 } },
  phone: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
};

mkdirSync(values.out, { recursive: true });
const browser = await chromium.launch({ executablePath: values.chromium, args: ARGUMENTS });
let isOk = true;

const test = {
  url: values.url,
  key: values.key ?? null,
  readKey: values["read-key"] ?? null,
  /** Prints a measurement. */
  row(row, value, bound, ok) {
    isOk &&= ok;
    console.log(JSON.stringify({ row, value, bound, ok }));
  },
  event: (event) => console.log(JSON.stringify({ event })),
  file: (name) => join(values.out, name),
  /** Opens a page of the console, by default signed in if a key was given. Problems of the page become failures. */
  async open(path, { size = "desktop", scheme = "light", isSignedIn = true, ...options } = {}) {
    const context = await browser.newContext({ ...SIZES[size], colorScheme: scheme, acceptDownloads: true, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(30_000);
    page.problems = [];
    page.on("pageerror", (error) => page.problems.push(error.message));
    page.on("console", (message) => {
      if (message.type() === "error" && /Content Security Policy|Uncaught/.test(message.text())) page.problems.push(message.text());
    });
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(values.url) && !/^(data|blob):/.test(url)) page.problems.push(`request to another host: ${url}`);
    });
    if (values.key && isSignedIn) {
      await page.goto(`${values.url}/console/`);
      await page.getByLabel("API key").fill(values.key);
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.getByRole("heading", { name: "Overview" }).waitFor();
    }
    if (path !== null) await page.goto(`${values.url}/console${path}`);
    return page;
  },
  async shot(page, name) {
    await page.screenshot({ path: join(values.out, `${name}.png`), fullPage: false });
  },
};

const isRunByDefault = (name) => name !== "restart" && (name !== "access" || (test.key && test.readKey));
const names = values.scenario ?? Object.keys(SCENARIOS).filter(isRunByDefault);
for (const name of names) {
  const scenario = SCENARIOS[name];
  if (!scenario) throw new Error(`there is no scenario ${name}; choose from ${Object.keys(SCENARIOS).join(", ")}`);
  try {
    await scenario(test);
  } catch (error) {
    test.row(name, String(error.message ?? error).split("\n").slice(0, 6).join(" | "), "passes", false);
  }
}
await browser.close();
process.exit(isOk ? 0 : 1);
