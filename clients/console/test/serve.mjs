// Serves the built console as a gateway does, and forwards all other requests to a gateway.
//
//   node test/serve.mjs [--port 7380] [--gateway http://127.0.0.1:7300] [--key KEY] [--scopes read,write] [--drafts]
//
// With --drafts, it answers requests for drafts, for gateways that do not serve them.
// With --key, the console asks for a key. Requests with the session's cookie are forwarded with this key.

import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, request as forward } from "node:http";
import { extname, join, normalize } from "node:path";
import { parseArgs } from "node:util";
import { createGzip, gzipSync } from "node:zlib";

import { draft } from "./drafts.mjs";

const DIST = join(import.meta.dirname, "../dist");
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; " +
  "form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".txt": "text/plain; charset=utf-8",
};
const ALL_SCOPES = ["read", "write", "delete", "admin"];

/** Starts the server. Returns its address and a function that stops it. */
export async function serve({ port = 0, gateway, key = null, scopes = ALL_SCOPES, hasDrafts = false }) {
  const sessions = new Map();
  const server = createServer((request, response) => {
    const url = new URL(request.url, "http://localhost");
    const session = sessions.get(/c3session=(\w+)/.exec(request.headers.cookie ?? "")?.[1]);
    if (url.pathname === "/console/session") return answerSession(request, response, { key, scopes, sessions, session });
    if (url.pathname === "/console" || url.pathname.startsWith("/console/")) return answerFile(request, response, url.pathname);
    const changes = !["GET", "HEAD"].includes(request.method);
    if (session && changes && request.headers["x-csrf-token"] !== session.csrf) {
      return problem(response, 403, "permission_denied", "the header x-csrf-token is missing or wrong: reload the page");
    }
    const [, id, window] = /^\/v1\/documents\/([^/]+)\/drafts\/(\d+)$/.exec(url.pathname) ?? [];
    if (id && hasDrafts) {
      return draft(gateway, id, Number(window)).then(
        (bytes) => response.writeHead(200, { "content-type": TYPES[".txt"], "cache-control": "no-store" }).end(bytes),
        (error) => problem(response, 503, "unavailable", error.message),
      );
    }
    pass(request, response, gateway, session ? key : null);
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  const stop = () => new Promise((resolve) => (server.close(resolve), server.closeAllConnections()));
  return { url: `http://127.0.0.1:${server.address().port}`, stop };
}

function answerFile(request, response, path) {
  const name = normalize(decodeURIComponent(path.slice("/console".length))).replace(/^\/+/, "");
  let file = name;
  let content;
  try {
    content = readFileSync(join(DIST, name));
  } catch {
    file = "index.html";
    content = readFileSync(join(DIST, file));
  }
  const headers = {
    "content-type": TYPES[extname(file)] ?? "application/octet-stream",
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": file.startsWith("assets/") ? "public, max-age=31536000, immutable" : "no-cache",
    vary: "accept-encoding",
  };
  if (/\bgzip\b/.test(request.headers["accept-encoding"] ?? "")) {
    content = gzipSync(content);
    headers["content-encoding"] = "gzip";
  }
  response.writeHead(200, { ...headers, "content-length": content.length }).end(content);
}

async function answerSession(request, response, { key, scopes, sessions, session }) {
  const describe = (session) => ({
    required: key !== null,
    signed_in: key === null || session !== undefined,
    tenant: session ? "default" : null,
    key: session ? "preview" : null,
    scopes: key === null ? ALL_SCOPES : session ? scopes : [],
    csrf: session?.csrf ?? null,
  });
  const cookie = (value, age) => ({ "set-cookie": `c3session=${value}; HttpOnly; SameSite=Strict; Path=/; Max-Age=${age}` });
  if (request.method === "POST") {
    let body = "";
    for await (const part of request) body += part;
    if (JSON.parse(body).key !== key) return problem(response, 401, "unauthenticated", "the key is unknown: check it");
    const id = randomBytes(16).toString("hex");
    const made = { csrf: randomBytes(16).toString("hex") };
    sessions.set(id, made);
    return json(response, 200, describe(made), cookie(id, 43200));
  }
  if (request.method === "DELETE") return response.writeHead(204, cookie("", 0)).end();
  json(response, 200, describe(session));
}

function pass(request, response, gateway, key) {
  const headers = { ...request.headers, host: new URL(gateway).host };
  delete headers.origin;
  delete headers["x-csrf-token"];
  delete headers.cookie;
  if (key) headers.authorization = `Bearer ${key}`;
  const upstream = forward(new URL(request.url, gateway), { method: request.method, headers }, (answer) => {
    if (request.url === "/metrics" && !answer.headers["content-encoding"] && /\bgzip\b/.test(headers["accept-encoding"] ?? "")) {
      const { "content-length": _, ...rest } = answer.headers;
      response.writeHead(answer.statusCode, { ...rest, "content-encoding": "gzip" });
      return void answer.pipe(createGzip()).pipe(response);
    }
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
    answer.on("error", () => response.destroy());
    answer.on("aborted", () => response.destroy());
  });
  upstream.on("error", () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
  response.on("close", () => upstream.destroy());
  request.pipe(upstream);
}

function json(response, status, body, headers = {}) {
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store", ...headers });
  response.end(JSON.stringify(body));
}

function problem(response, status, kind, detail) {
  const body = { type: `urn:c3serve:problem:${kind}`, title: kind, status, detail };
  response.writeHead(status, { "content-type": "application/problem+json" }).end(JSON.stringify(body));
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "7380" },
      gateway: { type: "string", default: process.env.C3_GATEWAY ?? "http://127.0.0.1:7300" },
      key: { type: "string" },
      scopes: { type: "string", default: ALL_SCOPES.join() },
      drafts: { type: "boolean", default: false },
    },
  });
  const { port, gateway, key, scopes, drafts } = values;
  const { url } = await serve({ port: Number(port), gateway, key, scopes: scopes.split(","), hasDrafts: drafts });
  console.log(`${url}/console/ in front of ${gateway}`);
}
