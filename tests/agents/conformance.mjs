#!/usr/bin/env node
// Checks the MCP server with the conformance suite of the MCP project, in both eras of the protocol.
//
//   node conformance.mjs --http URL/mcp [--out DIR]
//
// The suite was written for servers that have its own tools, prompts and resources, such as `test_simple_text`. The
// scenarios in APPLICABLE need none of them. All others still run, and the schema of every message that the server
// sends in them is checked. The suite speaks HTTP only, and without a key. Prints a line of JSON for each era. Exits
// with 1 if a check failed.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

const SUITE = join(import.meta.dirname, "node_modules/@modelcontextprotocol/conformance");
// Check that each scenario makes: all messages of the server follow the schema of the protocol.
const SCHEMA = "wire-schema-valid";

const BOTH = ["tools-list", "resources-list", "server-sse-multiple-streams", "dns-rebinding-protection"];
const APPLICABLE = {
  "2025-11-25": [...BOTH, "server-initialize", "server-session-lifecycle", "ping"],
  "2026-07-28": [
    ...BOTH,
    "server-stateless",
    "sep-2164-resource-not-found",
    "caching",
    "http-header-validation",
    "input-required-result-unsupported-methods",
    "input-required-result-ignore-extra-params",
  ],
};
// Scenarios that cannot hold for a server without what they name.
const NEEDS = [
  [/^tools-call-|^json-schema-|^http-custom-header-|^server-sse-polling$/, "tools of the suite"],
  [/^input-required-result-|^elicitation-/, "tools of the suite that ask the user"],
  [/^tasks-/, "tasks, an extension"],
  [/^sep-2640-skills-/, "skills, an extension"],
  [/^prompts-|^completion-complete$/, "prompts of the suite"],
  [/^resources-/, "resources of the suite"],
  [/^logging-set-level$/, "logging, which the protocol has deprecated"],
];
// Checks of applicable scenarios that need what only servers of the suite have.
const NOT_TESTABLE = [
  // A tool that needs sampling, `test_missing_capability`.
  "sep-2575-server-rejects-undeclared-capability",
  "sep-2575-missing-capability-http-400",
  // The tools `test_streaming_elicitation` and `test_logging_tool`.
  "sep-2575-http-server-no-independent-requests-on-stream",
  "sep-2575-server-no-log-without-loglevel",
  // Prompts.
  "sep-2549-prompts-list-caching-hints",
];

const { values: options } = parseArgs({ options: { http: { type: "string" }, out: { type: "string" } } });
if (!options.http) throw new Error("--http is missing");
const out = options.out ?? mkdtempSync(join(tmpdir(), "c3-conformance-"));

/** Runs the suite; returns the checks of each scenario. */
function run(era) {
  const folder = join(out, era);
  const args = [join(SUITE, "dist/index.js"), "server", "--url", options.http, "--suite", "all", "--spec-version", era];
  const ran = spawnSync(process.execPath, [...args, "-o", folder], { encoding: "utf8", timeout: 540_000 });
  const scenarios = new Map();
  for (const entry of readdirSync(folder)) {
    // The name of a folder ends with the time.
    const name = entry.replace(/^server-/, "").replace(/-\d{4}-\d\d-\d\dT[\d-]+Z$/, "");
    scenarios.set(name, JSON.parse(readFileSync(join(folder, entry, "checks.json"), "utf8")));
  }
  if (scenarios.size === 0) throw new Error(`the suite ran no scenario: ${ran.stdout}${ran.stderr}`);
  return scenarios;
}

function check(era) {
  const began = Date.now();
  const failures = [];
  const notApplicable = {};
  let count = 0;
  const scenarios = run(era);
  for (const name of APPLICABLE[era]) {
    if (!scenarios.has(name)) failures.push(`${name}: the suite has no such scenario`);
  }
  for (const [name, all] of scenarios) {
    let checks = all.filter(({ id }) => !NOT_TESTABLE.includes(id));
    if (!APPLICABLE[era].includes(name)) {
      const reason = NEEDS.find(([pattern]) => pattern.test(name))?.[1];
      if (!reason) failures.push(`${name}: a new scenario, which is neither applicable nor excused`);
      else (notApplicable[reason] ??= []).push(name);
      checks = checks.filter(({ id }) => id === SCHEMA);
    }
    count += checks.length;
    for (const { id, status, errorMessage } of checks) {
      if (status === "FAILURE") failures.push(`${name}: ${id}: ${errorMessage ?? ""}`);
    }
  }
  const { version } = JSON.parse(readFileSync(join(SUITE, "package.json"), "utf8"));
  const seconds = Math.round((Date.now() - began) / 100) / 10;
  const report = { client: `conformance-${version}`, transport: "http", era, checks: count, failed: failures.length };
  const applicable = `${APPLICABLE[era].length} of ${scenarios.size}`;
  console.log(JSON.stringify({ ...report, failures, seconds, applicable, not_applicable: notApplicable }));
  return failures.length === 0;
}

try {
  const held = Object.keys(APPLICABLE).map(check);
  process.exitCode = held.every(Boolean) ? 0 : 1;
} finally {
  if (!options.out) rmSync(out, { recursive: true });
}
