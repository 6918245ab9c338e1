#!/usr/bin/env node
// Checks the MCP server with the TypeScript SDK: version 2 in both eras of the protocol, and version 1 in the older
// one.
//
//   node typescript_client.mjs --stdio 'c3 mcp --gateway URL --files DIR' --files DIR --http URL/mcp [--key KEY]
//
// Prints a line of JSON for each SDK, transport and era. Exits with 1 if a check failed.

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

import { Client as NewClient, StreamableHTTPClientTransport as NewHttp } from "@modelcontextprotocol/client";
import { StdioClientTransport as NewStdio } from "@modelcontextprotocol/client/stdio";
import { Client as OldClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as OldStdio } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport as OldHttp } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const OLD_ERA = "2025-11-25";
const NEW_ERA = "2026-07-28";
// Bytes of the text whose store call reports progress and is cancelled.
const LONG_BYTES = 10_000;
// Milliseconds of a call.
const TIMEOUT = 120_000;

const { values: options } = parseArgs({
  options: {
    stdio: { type: "string" },
    files: { type: "string" },
    http: { type: "string" },
    key: { type: "string" },
  },
});

/** Clients of an SDK in an era. Version 2 of the SDK speaks the older era unless it is told to negotiate. */
const CLIENTS = [
  { sdk: "sdk", era: OLD_ERA, Client: OldClient, Stdio: OldStdio, Http: OldHttp },
  { sdk: "client", era: OLD_ERA, Client: NewClient, Stdio: NewStdio, Http: NewHttp },
  {
    sdk: "client",
    era: NEW_ERA,
    Client: NewClient,
    Stdio: NewStdio,
    Http: NewHttp,
    settings: { versionNegotiation: { mode: "auto" } },
  },
];

function versionOf(sdk) {
  const path = join(import.meta.dirname, "node_modules/@modelcontextprotocol", sdk, "package.json");
  return JSON.parse(readFileSync(path, "utf8")).version;
}

function transportOf(name, { Stdio, Http }) {
  if (name === "stdio") {
    const [command, ...args] = options.stdio.split(" ");
    return new Stdio({ command, args });
  }
  const headers = options.key ? { authorization: `Bearer ${options.key}` } : {};
  return new Http(new URL(options.http), { requestInit: { headers } });
}

class Checks {
  count = 0;
  failures = [];

  that(name, holds, detail) {
    this.count += 1;
    if (!holds) this.failures.push(`${name}: ${String(detail ?? "").slice(0, 300)}`);
  }

  equal(name, value, expected) {
    const [shown, wanted] = [JSON.stringify(value), JSON.stringify(expected)];
    this.that(name, shown === wanted, `${shown} instead of ${wanted}`);
  }
}

/** A connected client, with calls whose errors are values. */
class Connection {
  constructor(client) {
    this.client = client;
  }

  /** Calls a tool. Returns its structured result with the text blocks, or the message of its error. */
  async call(name, args, settings = {}) {
    let result;
    try {
      const request = { name, arguments: args };
      const how = { timeout: TIMEOUT, ...settings };
      // Version 1 takes the schema of the result before the options.
      result = await (this.client instanceof OldClient
        ? this.client.callTool(request, undefined, how)
        : this.client.callTool(request, how));
    } catch (error) {
      if (settings.signal?.aborted) throw error;
      return { error: String(error.message) };
    }
    const texts = result.content.filter((block) => block.type === "text").map((block) => block.text);
    return result.isError ? { error: texts.join(" ") } : { ...result.structuredContent, texts };
  }

  /** As `call`, but throws if the call fails. */
  async done(name, args, settings) {
    const result = await this.call(name, args, settings);
    if (result.error !== undefined) throw new Error(`${name}: ${result.error}`);
    return result;
  }

  async resources() {
    const uris = [];
    let cursor;
    do {
      const page = await this.client.listResources(cursor ? { cursor } : {});
      uris.push(...page.resources.map((resource) => resource.uri));
      cursor = page.nextCursor;
    } while (cursor);
    return uris;
  }

  async read(uri) {
    const { contents } = await this.client.readResource({ uri });
    return contents.map((part) => part.text).join("");
  }
}

async function listing(connection, checks, { file }) {
  checks.equal("server name", connection.client.getServerVersion()?.name, "c3-serve");
  const { tools } = await connection.client.listTools();
  checks.equal("tools", tools.map((tool) => tool.name).sort(), ["find", "forget", "recall", "stats", "store"]);
  for (const tool of tools) {
    checks.equal(`schemas of ${tool.name}`, [tool.inputSchema?.type, tool.outputSchema?.type], ["object", "object"]);
  }
  const store = tools.find((tool) => tool.name === "store");
  checks.equal("store offers files", "path" in store.inputSchema.properties, file !== undefined);
  const { resourceTemplates } = await connection.client.listResourceTemplates();
  const templates = resourceTemplates.map((template) => template.uriTemplate).sort();
  const expected = ["c3://documents/{id}{?start,end}", "c3://names/{namespace}/{+name}{?start,end}"];
  checks.equal("templates", templates, expected);
}

async function storing(connection, checks, document) {
  const stored = await connection.done("store", { text: document.text, name: document.name, labels: { check: "mcp" } });
  document.handle = stored.handle;
  document.id = stored.id;
  checks.equal("handle", stored.handle, stored.id.slice(0, 12));
  checks.equal("size", stored.size, document.bytes.length);
  checks.equal("stored twice", (await connection.done("store", { text: document.text })).id, stored.id);
  for (const handle of [stored.handle, stored.id, `@${document.name}`]) {
    const recalled = await connection.done("recall", { handle });
    checks.equal(`recall ${handle}`, [recalled.text, recalled.texts[0]], [document.text, document.text]);
  }
  if (document.file) {
    const { handle } = await connection.done("store", { path: "file.txt" });
    checks.equal("file", (await connection.done("recall", { handle })).text, document.file);
  }
}

async function recalling(connection, checks, document) {
  const { handle, bytes } = document;
  const lines = document.text.split(/(?<=\n)/);
  const some = await connection.done("recall", { handle, first_line: 3, last_line: 5 });
  checks.equal("lines", [some.text, some.first_line], [lines.slice(2, 5).join(""), 3]);
  const range = await connection.done("recall", { handle, start: 5, end: 46 });
  checks.equal("bytes", range.text, bytes.subarray(5, 46).toString());
  const around = await connection.done("recall", { handle, match: "Line 30 of", context: 2 });
  checks.equal("match", around.text, lines.slice(27, 32).join(""));
  let [text, start, parts] = ["", 0, 0];
  while (start !== undefined && parts++ < 200) {
    const part = await connection.done("recall", { handle, start, max_tokens: 200 });
    text += part.text;
    start = part.next;
  }
  checks.equal("parts joined", text, document.text);
  checks.that("several parts", parts > 3, parts);
}

async function finding(connection, checks, document) {
  const { hits } = await connection.done("find", { query: document.unique });
  checks.equal("found by a word", hits[0]?.id, document.id);
  const [namespace, name] = document.name.split("/");
  const listed = await connection.done("find", { namespace, name, labels: { check: "mcp" } });
  checks.equal("listed", listed.hits.map((hit) => hit.id), [document.id]);
  const windows = new Set();
  let cursor;
  do {
    const within = { query: "lamp", documents: [document.handle], limit: 1, ...(cursor && { cursor }) };
    const page = await connection.done("find", within);
    for (const hit of page.hits) windows.add(hit.start);
    cursor = page.next_cursor;
  } while (cursor && windows.size < 50);
  checks.that("pages", windows.size > 1, windows.size);
  const stats = await connection.done("stats", {});
  checks.that("stats", stats.documents > 0 && stats.version, JSON.stringify(stats));
}

async function reading(connection, checks, document) {
  const uri = `c3://documents/${document.id}`;
  checks.that("resource listed", (await connection.resources()).includes(uri), uri);
  checks.equal("read", await connection.read(uri), document.text);
  checks.equal("read a range", await connection.read(`${uri}?start=5&end=46`), document.bytes.subarray(5, 46).toString());
  checks.equal("read a name", await connection.read(`c3://names/${document.name}`), document.text);
  for (const unknown of [`c3://documents/${"0".repeat(64)}`, "c3://names/default/no-such-name", "file:///etc/hostname"]) {
    const refused = await connection.read(unknown).then(() => "", (error) => error.message);
    checks.that(`read ${unknown}`, refused, "it was read");
  }
}

async function refusing(connection, checks, { handle }) {
  for (const [tool, args] of [
    ["store", {}],
    ["store", { text: 1 }],
    ["store", { path: "../secret" }],
    ["recall", {}],
    ["recall", { handle: "0".repeat(12) }],
    ["recall", { handle: "@no-such-name" }],
    ["recall", { handle, start: "x" }],
    ["recall", { handle, first_line: 99 }],
    ["recall", { handle, match: "no such words anywhere" }],
    ["recall", { handle, unknown: true }],
    ["find", { query: "a", limit: 0 }],
    ["forget", { handle: "0".repeat(12) }],
    ["no_such_tool", {}],
  ]) {
    const result = await connection.call(tool, args);
    checks.that(`${tool} ${JSON.stringify(args)}`, result.error, JSON.stringify(result));
  }
}

function longText() {
  let text = "";
  while (text.length < LONG_BYTES) text += `${randomUUID().replaceAll("-", " ")}.\n`;
  return text;
}

async function progressAndCancel(connection, checks) {
  const [text, reports] = [longText(), []];
  const began = Date.now();
  const stored = await connection.done("store", { text }, { onprogress: ({ progress }) => reports.push(progress) });
  const took = Date.now() - began;
  checks.that("progress", reports.length > 0, "no report");
  checks.that("progress rises", reports.every((report, at) => at === 0 || report > reports[at - 1]), reports);
  const namespace = `cancel-${randomUUID().slice(0, 8)}`;
  const settings = { signal: AbortSignal.timeout(Math.round(took / 4)) };
  const ended = await connection
    .call("store", { text: longText(), name: `${namespace}/plan` }, settings)
    .then(() => "ended before it was cancelled", () => "cancelled");
  checks.equal("cancel", ended, "cancelled");
  checks.that("after a cancel", (await connection.done("stats", {})).documents > 0);
  // Longer than the call would have taken.
  await sleep(1.5 * took + 1000);
  checks.equal("nothing stored", (await connection.done("find", { namespace })).hits, []);
  await connection.done("forget", { handle: stored.handle });
}

async function forgetting(connection, checks, { handle, id, name }) {
  checks.equal("forgotten", (await connection.done("forget", { handle: `@${name}` })).id, id);
  const gone = await connection.call("recall", { handle });
  checks.that("recall after forget", gone.error, JSON.stringify(gone));
}

/** Runs all checks with a client over a transport, and prints the report. */
async function check(of, transport) {
  const checks = new Checks();
  const began = Date.now();
  const client = new of.Client({ name: "c3-checks", version: "1.0.0" }, of.settings ?? {});
  // Old and new versions of the SDK report problems of the transport here; requests that they break fail by themselves.
  client.onerror = () => {};
  try {
    const connected = transportOf(transport, of);
    await client.connect(connected);
    const negotiated = client.getNegotiatedProtocolVersion?.() ?? connected.protocolVersion ?? of.era;
    checks.equal("protocol version", negotiated, of.era);
    if (transport === "http") checks.equal("session", connected.sessionId !== undefined, of.era === OLD_ERA);
    const unique = randomUUID().replaceAll("-", "");
    const lines = Array.from({ length: 60 }, (_, n) => `Line ${n + 1} of ${unique}: the lamp at pier ${(n * 7) % 97} is ä 書 😀.\n`);
    const text = `${lines.join("")}The last line has no end.`;
    const name = `check-${unique.slice(0, 8)}/plan`;
    const file = transport === "stdio" && options.files ? readFileSync(join(options.files, "file.txt"), "utf8") : undefined;
    const document = { text, unique, name, file, bytes: Buffer.from(text) };
    const connection = new Connection(client);
    for (const step of [listing, storing, recalling, finding, reading, refusing, progressAndCancel, forgetting]) {
      await step(connection, checks, document).catch((error) => checks.that(step.name, false, error.message));
    }
    await client.close();
  } catch (error) {
    checks.that("connection", false, error.stack);
  }
  const { count, failures } = checks;
  const seconds = Math.round((Date.now() - began) / 100) / 10;
  const report = { client: `typescript-${of.sdk}-${versionOf(of.sdk)}`, transport, era: of.era, checks: count };
  console.log(JSON.stringify({ ...report, failed: failures.length, failures, seconds }));
  return failures.length === 0;
}

const transports = ["stdio", "http"].filter((name) => options[name]);
let held = transports.length > 0;
for (const transport of transports) {
  for (const of of CLIENTS) held = (await check(of, transport)) && held;
}
process.exit(held ? 0 : 1);
