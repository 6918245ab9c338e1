// Scripted model behind the APIs that Claude Code and Codex call. It stores a text, recalls the third line, and quotes
// it.

import { createServer } from "node:http";

/** The third line. The model says it only if the server's tools return it. */
export const LINE = "The third line says: the lamp at pier 9 is green.";
const TEXT = `A text for an agent.\n\n${LINE}\n${"A line that the agent does not need.\n".repeat(20)}`;

/** Starts the model. `begin` begins the script anew; `tools` returns the names of the server's tools that it got. */
export async function startModel() {
  let tools = [];
  let problem = "";
  const server = createServer(async (request, response) => {
    const asked = await body(request);
    const api = request.url.startsWith("/v1/messages") ? messages : request.url.startsWith("/v1/responses") ? responses : undefined;
    if (!api || !asked?.stream) {
      response.writeHead(404, { "content-type": "application/json" }).end("{}");
      return;
    }
    const offered = api.tools(asked);
    if (offered.length > 0) tools = offered;
    const results = api.results(asked);
    problem = `results: ${JSON.stringify(results)}`;
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (const event of offered.length > 0 ? reply(api, results) : api.text("no tools")) {
      response.write(`event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
    }
    response.end();
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    begin: () => {
      tools = [];
      problem = "";
    },
    tools: () => [...tools].sort(),
    problem: () => problem,
    stop: () => server.close(),
  };
}

/** Returns the events of the next reply, which depends on the tool results so far. */
function reply(api, results) {
  if (results.length === 0) return api.call("store", { text: TEXT });
  const handle = results[0].match(/handle\W+([0-9a-f]{12})/)?.[1];
  if (results.length === 1 && handle) return api.call("recall", { handle, first_line: 3, last_line: 3 });
  return api.text(results.at(-1).includes(LINE) ? LINE : "the tool did not return the line");
}

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  try {
    return JSON.parse(Buffer.concat(chunks));
  } catch {
    return undefined;
  }
}

let calls = 0;

/** Anthropic's messages. */
const messages = {
  tools: (asked) => (asked.tools ?? []).flatMap(({ name }) => name?.match(/^mcp__c3__(.*)$/)?.[1] ?? []),
  results: (asked) =>
    asked.messages
      .flatMap(({ content }) => (Array.isArray(content) ? content : []))
      .filter(({ type }) => type === "tool_result")
      .map(({ content }) => (typeof content === "string" ? content : content.map((part) => part.text ?? "").join("\n"))),
  call: (name, input) =>
    message("tool_use", { type: "tool_use", id: `toolu_${calls++}`, name: `mcp__c3__${name}`, input: {} }, {
      type: "input_json_delta",
      partial_json: JSON.stringify(input),
    }),
  text: (text) => message("end_turn", { type: "text", text: "" }, { type: "text_delta", text }),
};

function message(stop_reason, content_block, delta) {
  const usage = { input_tokens: 1, output_tokens: 1 };
  const begun = { id: `msg_${calls}`, type: "message", role: "assistant", model: "scripted", content: [] };
  return [
    { type: "message_start", message: { ...begun, stop_reason: null, stop_sequence: null, usage } },
    { type: "content_block_start", index: 0, content_block },
    { type: "content_block_delta", index: 0, delta },
    { type: "content_block_stop", index: 0 },
    { type: "message_delta", delta: { stop_reason, stop_sequence: null }, usage: { output_tokens: 1 } },
    { type: "message_stop" },
  ];
}

/** OpenAI's responses, in which the tools of a server have a namespace. */
const responses = {
  tools: (asked) => (asked.tools ?? []).filter(({ name }) => name === "mcp__c3").flatMap(({ tools }) => tools.map(({ name }) => name)),
  results: (asked) =>
    asked.input
      .filter(({ type }) => type === "function_call_output")
      .map(({ output }) => (typeof output === "string" ? output : JSON.stringify(output))),
  call: (name, input) =>
    response({
      type: "function_call",
      id: `fc_${calls}`,
      call_id: `call_${calls++}`,
      namespace: "mcp__c3",
      name,
      arguments: JSON.stringify(input),
    }),
  text: (text) =>
    response({ type: "message", id: `msg_${calls}`, role: "assistant", content: [{ type: "output_text", text, annotations: [] }] }),
};

function response(item) {
  const id = `resp_${calls}`;
  const usage = { input_tokens: 1, output_tokens: 1, total_tokens: 2 };
  return [
    { type: "response.created", response: { id } },
    { type: "response.output_item.done", output_index: 0, item },
    { type: "response.completed", response: { id, usage } },
  ];
}
