// Scripted model: gives the prepared replies of a script in order, without a network. In a text, `{result}` stands for
// the last tool result that the model received, so a script shows that results arrive.

export type Call = { tool: string; arguments: Record<string, unknown> };
type ToolResult = { type: string; content?: string | { text?: string }[] };

/** Returns a `fetch` for the Anthropic SDK that answers `POST /v1/messages`. */
export function anthropicReplies(script: (Call | string)[]): typeof fetch {
  let next = 0;
  return async (_url, init) => {
    const asked = JSON.parse(String(init?.body));
    const [number, reply] = [next, script[next++]];
    if (reply === undefined) throw new Error("the script has no more replies");
    const calls = typeof reply !== "string";
    return Response.json({
      id: `msg_${number}`,
      type: "message",
      role: "assistant",
      model: asked.model,
      content: [
        calls
          ? { type: "tool_use", id: `toolu_${number}`, name: reply.tool, input: reply.arguments }
          : { type: "text", text: reply.replaceAll("{result}", () => lastResult(asked.messages)) },
      ],
      stop_reason: calls ? "tool_use" : "end_turn",
      stop_sequence: null,
      usage: { input_tokens: 0, output_tokens: 0 },
    });
  };
}

/** Returns the first block of the last tool result: the text that was asked for. Further blocks are notes. */
function lastResult(messages: { content: string | ToolResult[] }[]): string {
  const blocks = messages.flatMap(({ content }) => (typeof content === "string" ? [] : content));
  const content = blocks.findLast((block) => block.type === "tool_result")?.content ?? "nothing";
  return (typeof content === "string" ? content : (content[0]?.text ?? "")).trim();
}
