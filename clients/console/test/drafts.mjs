// Answers `GET /v1/documents/{ref}/drafts/{window}` for gateways that do not: the text that the decoder writes for a
// window without corrections. It asks a decoder node directly.

import { connect } from "node:http2";

import { blake3 } from "@noble/hashes/blake3.js";

const CODECS = { f32: 1, bf16: 2, q8_0: 3, q4_0: 4 };

/** Returns the draft as bytes. */
export async function draft(gateway, document, number) {
  const file = Buffer.from(await (await fetch(`${gateway}/v1/documents/${document}/latents`)).arrayBuffer());
  const length = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + length).toString());
  const window = JSON.parse(Object.values(header.__metadata__)[0]).windows[number];
  const [start, end] = header[`window.${number}`].data_offsets;
  const data = file.subarray(8 + length + start, 8 + length + end);
  const group = Buffer.concat([
    integer(1, window.latents),
    integer(2, window.width),
    integer(3, CODECS[window.codec]),
    block(4, data),
    block(5, Buffer.from(blake3(data))),
    block(6, Buffer.from(window.compressor, "hex")),
    integer(7, window.tokens),
    integer(8, window.ratio),
  ]);
  // DecodeRequest with the task `reconstruct` without corrections.
  const request = Buffer.concat([integer(1, number), block(2, group), block(3, Buffer.alloc(0))]);
  const { nodes } = await (await fetch(`${gateway}/v1/nodes`)).json();
  const decoder = nodes.find(({ stage, state }) => stage === "decoder" && state === "ready");
  return Buffer.concat((await call(decoder.address, "/c3.v1.Decoder/Decode", request)).map((response) => field(response, 2)));
}

/** Makes a gRPC call with one request. Returns the responses. */
function call(address, path, request) {
  return new Promise((resolve, reject) => {
    const session = connect(address);
    const headers = { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" };
    const stream = session.request(headers);
    const parts = [];
    let status = "0";
    stream.on("data", (part) => parts.push(part));
    stream.on("trailers", (trailers) => (status = trailers["grpc-status"]));
    stream.on("end", () => {
      session.close();
      if (status !== "0") return reject(new Error(`gRPC status ${status}`));
      resolve(messages(Buffer.concat(parts)));
    });
    stream.on("error", reject);
    session.on("error", reject);
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(request.length, 1);
    stream.end(Buffer.concat([prefix, request]));
  });
}

function messages(bytes) {
  const result = [];
  for (let at = 0; at < bytes.length; ) {
    const size = bytes.readUInt32BE(at + 1);
    result.push(bytes.subarray(at + 5, at + 5 + size));
    at += 5 + size;
  }
  return result;
}

function varint(value) {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return Buffer.from([...bytes, value]);
}

const integer = (number, value) => Buffer.concat([varint(number << 3), varint(value)]);
const block = (number, bytes) => Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);

/** Returns the bytes of a field of a message; empty if it is absent. */
function field(message, wanted) {
  let at = 0;
  const read = () => {
    let [value, scale] = [0, 1];
    for (;;) {
      const byte = message[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      scale *= 128;
    }
  };
  while (at < message.length) {
    const key = read();
    if ((key & 7) === 0) read();
    else {
      const size = read();
      if (key >> 3 === wanted) return message.subarray(at, at + size);
      at += size;
    }
  }
  return Buffer.alloc(0);
}
