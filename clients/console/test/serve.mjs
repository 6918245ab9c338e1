// Serves the built console as a gateway does, and forwards all other requests to a gateway.
//
//   node test/serve.mjs [--port 7380] [--gateway http://127.0.0.1:7300]

import { readFileSync } from "node:fs";
import { createServer, request as forward } from "node:http";
import { extname, join, normalize } from "node:path";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";

const DIST = join(import.meta.dirname, "../dist");
const SESSION = "/console/session";
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

/** Starts the server. Returns its address and a function that stops it. */
export async function serve({ port = 0, gateway }) {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const isFile = pathname === "/console" || (pathname.startsWith("/console/") && pathname !== SESSION);
    if (isFile) answerFile(request, response, pathname);
    else pass(request, response, gateway);
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

/**
 * Forwards a request as it is. `Host` stays that of this server, so that `Origin` is the same origin. Each request has
 * its own connection: the gateway may close an idle one in the moment in which it is used again.
 */
function pass(request, response, gateway) {
  const { method, headers } = request;
  const upstream = forward(new URL(request.url, gateway), { method, headers, agent: false }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
    answer.on("error", () => response.destroy());
    answer.on("aborted", () => response.destroy());
  });
  upstream.on("error", () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
  response.on("close", () => upstream.destroy());
  request.pipe(upstream);
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "7380" },
      gateway: { type: "string", default: process.env.C3_GATEWAY ?? "http://127.0.0.1:7300" },
    },
  });
  const { url } = await serve({ port: Number(values.port), gateway: values.gateway });
  console.log(`${url}/console/ in front of ${values.gateway}`);
}
