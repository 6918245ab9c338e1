#!/usr/bin/env node
// Checks the MCP server with the command line of MCP inspector, in both eras of the protocol.
//
//   node inspector.mjs --stdio 'c3 mcp --gateway URL' --http URL/mcp [--key KEY]
//
// Each call is a process of its own, so cancels are not checked. Prints a line of JSON for each transport and era.
// Exits with 1 if a check failed.

import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

const ERAS = { legacy: "2025-11-25", modern: "2026-07-28" };
const INSPECTOR = join(import.meta.dirname, "node_modules/@modelcontextprotocol/inspector");
// Exit code of the inspector if a tool reports an error.
const TOOL_FAILED = 5;

const { values: options } = parseArgs({
  options: { stdio: { type: "string" }, http: { type: "string" }, key: { type: "string" } },
});
// The inspector keeps settings in the home directory.
const home = mkdtempSync(join(tmpdir(), "c3-inspector-"));

/** Runs the inspector; returns its exit code, its result and its error. */
function inspect(transport, era, ...args) {
  const header = options.key ? ["--header", `authorization: Bearer ${options.key}`] : [];
  const server =
    transport === "http"
      ? ["--server-url", options.http, "--transport", "http", ...header]
      : ["--", ...options.stdio.split(" ")];
  const all = ["clients/launcher/build/index.js", "--cli", "--format", "json", "-q", "--protocol-era", era, ...args, ...server];
  const env = { ...process.env, HOME: home };
  const ran = spawnSync(process.execPath, all, { cwd: INSPECTOR, encoding: "utf8", timeout: 120_000, env });
  let result;
  try {
    result = JSON.parse(ran.stdout).result;
  } catch {
    result = undefined;
  }
  return { code: ran.status, result, error: ran.stderr.trim().slice(-300) };
}

function check(transport, era) {
  const failures = [];
  const began = Date.now();
  let count = 0;
  const that = (name, holds, detail) => {
    count += 1;
    if (!holds) failures.push(`${name}: ${JSON.stringify(detail)?.slice(0, 300)}`);
  };
  const method = (name, ...args) => inspect(transport, era, "--method", name, ...args);
  const tool = (name, args) => method("tools/call", "--tool-name", name, "--tool-args-json", JSON.stringify(args));
  const structured = (name, args) => {
    const ran = tool(name, args);
    that(`${name} exits with 0`, ran.code === 0, ran);
    return ran.result?.structuredContent ?? {};
  };

  const listed = method("tools/list", "--strict");
  const names = listed.result?.tools?.map((each) => each.name).sort();
  that("tools", names?.join() === "find,forget,recall,stats,store", listed);
  that("schemas are portable", listed.code === 0 && !listed.error, listed.error);

  const text = `${randomUUID()}\nThe lamp at the pier is ä 書 😀.\nThe third line has no end.`;
  const name = `inspector-${randomUUID().slice(0, 8)}/plan`;
  const { handle, id } = structured("store", { text, name });
  that("handle", id?.startsWith(handle), { handle, id });
  that("recall", structured("recall", { handle }).text === text, handle);
  that("recall a name", structured("recall", { handle: `@${name}` }).text === text, name);
  const second = structured("recall", { handle, first_line: 2, last_line: 2 }).text;
  that("recall lines", second === `${text.split("\n")[1]}\n`, second);
  const start = structured("recall", { handle, start: 0, end: 8 }).text;
  that("recall bytes", start === text.slice(0, 8), start);
  const around = structured("recall", { handle, match: "third line", context: 0 }).text;
  that("recall a match", around === text.split("\n")[2], around);
  const { hits } = structured("find", { query: text.split("\n")[0] });
  that("find", hits?.[0]?.id === id, hits);
  that("stats", structured("stats", {}).documents > 0, "stats");
  for (const [wrong, args] of [
    ["recall", {}],
    ["recall", { handle: "000000000000" }],
    ["recall", { handle, max_tokens: 0 }],
    ["store", {}],
    ["forget", { handle: "@no-such-name" }],
  ]) {
    const ran = tool(wrong, args);
    that(`${wrong} ${JSON.stringify(args)}`, ran.code === TOOL_FAILED, ran);
  }

  const templates = method("resources/templates/list").result?.resourceTemplates?.map((each) => each.uriTemplate).sort();
  that("templates", templates?.join() === "c3://documents/{id}{?start,end},c3://names/{namespace}/{+name}{?start,end}", templates);
  const uri = `c3://documents/${id}`;
  const resources = method("resources/list");
  that("resource listed", resources.result?.resources?.some((each) => each.uri === uri), resources.error || uri);
  for (const [read, expected] of [
    [uri, text],
    [`${uri}?start=0&end=8`, text.slice(0, 8)],
    [`c3://names/${name}`, text],
  ]) {
    const ran = method("resources/read", "--uri", read);
    that(`read ${read}`, ran.result?.contents?.[0]?.text === expected, ran);
  }
  const unknown = method("resources/read", "--uri", `c3://documents/${"0".repeat(64)}`);
  that("read an unknown document", unknown.code !== 0, unknown);
  that("forget", structured("forget", { handle }).id === id, handle);
  that("recall after forget", tool("recall", { handle }).code === TOOL_FAILED, handle);

  const { version } = JSON.parse(readFileSync(join(INSPECTOR, "package.json"), "utf8"));
  const seconds = Math.round((Date.now() - began) / 100) / 10;
  const report = { client: `inspector-${version}`, transport, era: ERAS[era], checks: count };
  console.log(JSON.stringify({ ...report, failed: failures.length, failures, seconds }));
  return failures.length === 0;
}

try {
  const transports = ["stdio", "http"].filter((transport) => options[transport]);
  const held = transports.flatMap((transport) => Object.keys(ERAS).map((era) => check(transport, era)));
  process.exitCode = held.length > 0 && held.every(Boolean) ? 0 : 1;
} finally {
  rmSync(home, { recursive: true });
}
