// An agent that works with long texts through the MCP server of C3 Serve. TypeScript SDK of MCP, and of Anthropic.
//
//   node mcp_client.ts FILE                                     # starts `c3 mcp`, which runs all of C3 Serve
//   node mcp_client.ts FILE --url http://127.0.0.1:7300/mcp     # uses a gateway; its API key: C3_API_KEY
//   node mcp_client.ts FILE --scripted                          # without a network
//
// The program stores a long text and tells the model only its handle. The model recalls the part that it needs, so the
// rest never takes space in its context. Node.js 22.18 or later runs this file as it is.

import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { parseArgs } from "node:util";

import Anthropic from "@anthropic-ai/sdk";
import { type MCPClientLike, mcpTools } from "@anthropic-ai/sdk/helpers/beta/mcp";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

import { anthropicReplies } from "./scripted.ts";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: "string" },
    c3: { type: "string", default: "c3" },
    data: { type: "string", default: "documents" },
    line: { type: "string", default: "5" },
    model: { type: "string", default: "claude-sonnet-5-5" },
    scripted: { type: "boolean", default: false },
  },
});
const [file] = positionals;
if (!file) throw new Error("usage: node mcp_client.ts FILE [--url URL] [--scripted]");

/** Returns the connection to the MCP server: a gateway's, or a program that the SDK starts. */
function transport() {
  const { url, c3, data } = options;
  if (!url) return new StdioClientTransport({ command: c3, args: ["mcp", "--data", data] });
  const key = process.env.C3_API_KEY;
  return new StreamableHTTPClientTransport(new URL(url), {
    requestInit: { headers: key ? { authorization: `Bearer ${key}` } : {} },
  });
}

type Stored = { handle: string; size: number; tokens: number };
type Part = { text: string; next?: number };

/** Calls a tool; returns its structured result. */
async function call<T>(mcp: Client, name: string, args: Record<string, unknown>): Promise<T> {
  const result = await mcp.callTool({ name, arguments: args });
  if (result.isError) throw new Error(JSON.stringify(result.content));
  return result.structuredContent as T;
}

/** Reads a document of any length: `recall` returns a part, and where the next one begins. */
async function wholeText(mcp: Client, handle: string): Promise<string> {
  let text = "";
  for (let start: number | undefined = 0; start !== undefined; ) {
    const part: Part = await call(mcp, "recall", { handle, start });
    text += part.text;
    start = part.next;
  }
  return text;
}

/** Lets the model call the server's tools until it answers. */
async function ask(client: Anthropic, mcp: Client, question: string): Promise<string> {
  const { tools } = await mcp.listTools();
  const answer = await client.beta.messages.toolRunner({
    model: options.model,
    max_tokens: 4000,
    // The two SDKs type structuredContent differently.
    tools: mcpTools(tools, mcp as MCPClientLike),
    messages: [{ role: "user", content: question }],
  });
  return answer.content.map((block) => (block.type === "text" ? block.text : "")).join("");
}

const text = await readFile(file, "utf8");
const line = Number(options.line);
const mcp = new Client({ name: "c3-example", version: "1.0.0" }, { versionNegotiation: { mode: "auto" } });
await mcp.connect(transport());
try {
  console.log(`server: ${mcp.getServerVersion()?.name}, protocol ${mcp.getNegotiatedProtocolVersion()}`);
  const { handle, size, tokens } = await call<Stored>(mcp, "store", { text });
  console.log(`stored: ${handle}, ${size} bytes, ${tokens} tokens\n`);

  const recall = { tool: "recall", arguments: { handle, first_line: line, last_line: line } };
  const scripted = { apiKey: "none", fetch: anthropicReplies([recall, "{result}"]) };
  const client = new Anthropic(options.scripted ? scripted : {});
  const question = `Quote line ${line} of the document ${handle}, word for word.`;
  console.log(`user:   ${question}`);
  console.log(`claude: ${await ask(client, mcp, question)}\n`);

  const identical = (await wholeText(mcp, handle)) === text;
  console.log(`identical to ${basename(file)}: ${identical ? "yes" : "no"}`);
  process.exitCode = identical ? 0 : 1;
} finally {
  await mcp.close();
}
