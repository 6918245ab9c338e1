"""A scripted Messages API for Claude Code, without network: a prompt `Call: TOOL JSON` becomes a call of the tool."""

import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class MessagesApi:
    """Server on a free port, which records the requests."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        numbers = itertools.count(1)
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self._send("text/plain", b"")

            do_GET = do_HEAD

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if "count_tokens" in self.path:
                    self._send("application/json", b'{"input_tokens": 100}')
                    return
                requests.append(body)
                message = _answer(body, next(numbers))
                if body.get("stream"):
                    self._send("text/event-stream", _events(message))
                else:
                    self._send("application/json", json.dumps(message).encode())

            def _send(self, kind: str, data: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _answer(body: dict[str, Any], number: int) -> dict[str, Any]:
    last = [message for message in body["messages"] if message["role"] == "user"][-1]["content"]
    blocks = [{"type": "text", "text": last}] if isinstance(last, str) else last
    lines = [line for block in blocks if block["type"] == "text" for line in block["text"].splitlines()]
    calls = [line.removeprefix("Call: ").split(" ", 1) for line in lines if line.startswith("Call: ")]
    is_result = any(block["type"] == "tool_result" for block in blocks)
    block: dict[str, Any] = {"type": "text", "text": f"Answer {number}: 4,242 rows."}
    if calls and not is_result:
        tool, input = calls[-1]
        block = {"type": "tool_use", "id": f"toolu_{number}", "name": tool, "input": json.loads(input)}
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [block],
        "stop_reason": "tool_use" if block["type"] == "tool_use" else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1000, "output_tokens": 20},
    }


def _events(message: dict[str, Any]) -> bytes:
    [block] = message["content"]
    if block["type"] == "text":
        start, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
    else:
        start = {**block, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    events: list[tuple[str, dict[str, Any]]] = [
        ("message_start", {"message": {**message, "content": [], "stop_reason": None}}),
        ("content_block_start", {"index": 0, "content_block": start}),
        ("content_block_delta", {"index": 0, "delta": delta}),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": stop, "usage": {"output_tokens": 20}}),
        ("message_stop", {}),
    ]
    lines = [f"event: {name}\ndata: {json.dumps({'type': name, **value})}\n\n" for name, value in events]
    return "".join(lines).encode()
