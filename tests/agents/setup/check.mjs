#!/usr/bin/env node
// Checks the set-up in docs/guides/mcp.md with the real Claude Code and Codex, and a scripted model. The configurations
// of Cursor and VS Code, which no package registry has, are checked with the official TypeScript SDK.
//
//   node setup/check.mjs --c3 PROGRAM --http URL/mcp [--guide FILE]
//
// Claude Code and Codex run the commands of the guide. Then their agent stores a text through the server and recalls a
// line of it. Prints a line of JSON for each client and transport. Exits with 1 if a check failed.

import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { parseArgs, promisify } from "node:util";

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

import { LINE, startModel } from "./model.mjs";

const ROOT = resolve(import.meta.dirname, "../../..");
const GUIDE_URL = "http://127.0.0.1:7300/mcp";
const TOOLS = ["find", "forget", "recall", "stats", "store"];
const { values: options } = parseArgs({
  options: {
    c3: { type: "string" },
    http: { type: "string" },
    guide: { type: "string", default: join(ROOT, "docs/guides/mcp.md") },
  },
});
if (!options.c3 || !options.http) throw new Error("--c3 and --http are missing");

// A home without any settings, and a project.
const home = mkdtempSync(join(tmpdir(), "c3-setup-"));
const [project, bin] = [join(home, "project"), join(home, "bin")];
mkdirSync(project);
mkdirSync(bin);
symlinkSync(resolve(options.c3), join(bin, "c3"));
const model = await startModel();

/** Environment of the clients: the scripted model, and no settings or keys of this user. */
function environment() {
  const foreign = /^(ANTHROPIC|CLAUDE|OPENAI|CODEX|C3)/;
  const kept = Object.entries(process.env).filter(([name]) => !foreign.test(name));
  return {
    ...Object.fromEntries(kept),
    HOME: home,
    PATH: [bin, join(import.meta.dirname, "node_modules/.bin"), process.env.PATH].join(delimiter),
    ANTHROPIC_BASE_URL: model.url,
    ANTHROPIC_API_KEY: "none",
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
    // Otherwise the tools of servers are listed only after a search for them.
    ENABLE_TOOL_SEARCH: "false",
  };
}

/** Runs a command of the shell in the project; returns what it prints. */
async function run(command) {
  const settings = { cwd: project, env: environment(), timeout: 120_000 };
  const running = promisify(execFile)("bash", ["-c", command], settings);
  running.child.stdin.end();
  const { stdout, stderr } = await running.catch((error) => error);
  return `${stdout}${stderr}`;
}

/** Returns the first code block of a section of the guide. */
function block(section) {
  const guide = readFileSync(options.guide, "utf8");
  return guide.split(`### ${section}\n`)[1].split("```")[1].replace(/^\w+\n/, "");
}

class Checks {
  count = 0;
  failures = [];

  that(name, holds, detail) {
    this.count += 1;
    if (!holds) this.failures.push(`${name}: ${String(detail).slice(-400)}`);
  }
}

// `required`: Codex otherwise asks the model before the server has started.
const CODEX_MODEL =
  `-c 'model_providers.scripted={name="scripted",base_url="${model.url}/v1",wire_api="responses"}' ` +
  "-c model_provider=scripted -c model=scripted -c mcp_servers.c3.required=true";
const AGENTS = [
  {
    name: "claude-code",
    section: "Claude Code",
    version: "claude --version",
    remove: "claude mcp remove c3",
    // `mcp list` connects to each server.
    listed: (printed) => /^c3: .*✔ Connected$/m.test(printed),
    ask: `claude -p "Store the text, then recall its third line." --allowedTools mcp__c3__store,mcp__c3__recall`,
  },
  {
    name: "codex",
    section: "Codex",
    version: "codex --version",
    remove: "codex mcp remove c3",
    listed: (printed) => /^c3 .*enabled/m.test(printed),
    ask: `codex exec --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox ${CODEX_MODEL} "Store the text, then recall its third line."`,
  },
];

async function checkAgent(agent, transport, checks) {
  const [stdio, http, list] = block(agent.section).trim().split("\n");
  const added = await run((transport === "stdio" ? stdio : http).replace(GUIDE_URL, options.http));
  const printed = await run(list);
  checks.that("the client lists the server", agent.listed(printed), added + printed);
  model.begin();
  const answer = await run(agent.ask);
  checks.that("the model gets all tools", model.tools().join() === TOOLS.join(), model.tools());
  checks.that("the agent recalls the line", answer.includes(LINE), `${answer}\n${model.problem()}`);
  await run(agent.remove);
}

/** Connects to the server of an editor's configuration as the editor would, and lists its tools. */
async function checkEditor(section, transport, checks) {
  const guide = readFileSync(options.guide, "utf8").split(`### ${section}\n`)[1];
  const http = guide.match(/For HTTP, the entry is `(.*?)`/)[1];
  const configuration = transport === "stdio" ? JSON.parse(block(section)) : { servers: JSON.parse(`{${http}}`) };
  const entry = Object.values(configuration)[0].c3;
  const filled = (value) => value.replace("${userHome}", home).replace("${workspaceFolder}", project);
  const connection =
    transport === "stdio"
      ? new StdioClientTransport({ command: entry.command, args: entry.args.map(filled), env: environment() })
      : new StreamableHTTPClientTransport(new URL(entry.url.replace(GUIDE_URL, options.http)));
  const client = new Client({ name: section, version: "1.0.0" });
  await client.connect(connection);
  const { tools } = await client.listTools();
  const names = tools.map((tool) => tool.name).sort();
  checks.that("the configuration reaches the server", names.join() === TOOLS.join(), names);
  await client.close();
}

async function report(name, transport, check) {
  const checks = new Checks();
  const began = Date.now();
  await check(checks).catch((error) => checks.that("the check runs", false, error.stack));
  const seconds = Math.round((Date.now() - began) / 100) / 10;
  const line = { client: name, transport, checks: checks.count, failed: checks.failures.length };
  console.log(JSON.stringify({ ...line, failures: checks.failures, seconds }));
  return checks.failures.length === 0;
}

let held = true;
try {
  for (const transport of ["stdio", "http"]) {
    for (const agent of AGENTS) {
      const [version] = (await run(agent.version)).match(/\d+\.\d+\.\d+/);
      const check = (checks) => checkAgent(agent, transport, checks);
      held = (await report(`${agent.name}-${version}`, transport, check)) && held;
    }
    for (const section of ["Cursor", "VS Code"]) {
      const name = `${section.toLowerCase().replace(" ", "-")}-configuration`;
      held = (await report(name, transport, (checks) => checkEditor(section, transport, checks))) && held;
    }
  }
} finally {
  model.stop();
  rmSync(home, { recursive: true, force: true, maxRetries: 5 });
}
process.exit(held ? 0 : 1);
