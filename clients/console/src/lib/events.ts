//! Server-sent events of responses to `fetch`. `EventSource` can only send GET without headers.

import { call, problemOf, Unreachable, type CallOptions } from "./api";

export interface ServerEvent {
  name: string;
  data: any;
}

/** Yields the events of a response. Throws `Problem` for the event `problem`, and `Unreachable` if the end is missing. */
export async function* events(path: string, options: CallOptions): AsyncGenerator<ServerEvent> {
  const headers = { ...options.headers, accept: "text/event-stream" };
  const response = await call(path, { ...options, headers });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        if (error.name === "AbortError") throw error;
        throw new Unreachable();
      });
      if (done) throw new Unreachable();
      buffer += value;
      for (let end = buffer.indexOf("\n\n"); end >= 0; end = buffer.indexOf("\n\n")) {
        const event = parse(buffer.slice(0, end));
        buffer = buffer.slice(end + 2);
        if (!event) continue;
        if (event.name === "problem") throw problemOf(event.data, event.data?.status ?? 500);
        yield event;
        if (event.name === "result") return;
      }
    }
  } finally {
    void reader.cancel().catch(() => {});
  }
}

function parse(block: string): ServerEvent | null {
  let name = "message";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("data:")) data += line.slice(5);
  }
  return data === "" ? null : { name, data: JSON.parse(data) };
}
