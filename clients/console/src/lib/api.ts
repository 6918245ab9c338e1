//! Calls of the gateway's HTTP API.

import { connection } from "./connection";
import { session } from "./session";

export interface Document {
  id: string;
  bytes: number;
  tokens: number;
  latents: number;
  /** Text tokens per latent; 0 if windows have different ratios. */
  ratio: number;
  codec: string;
  fidelity: number | null;
  corrections: number | null;
  exact_windows: number | null;
  windows: number;
  verified: boolean;
  stored_bytes: number;
  cascade: string;
  created: string;
  expires?: string;
  labels?: Record<string, string>;
  names?: string[];
}

/** Document as the last event of a put has it. */
export interface Stored extends Document {
  already_stored: boolean;
  shards_reused: number;
  seconds: { compress: number; verify: number; store: number };
  bound_met?: boolean;
}

export interface Progress {
  bytes_done: number;
  tokens_done: number;
  bytes_reused: number;
  seconds_left: number | null;
}

export interface DocumentPage {
  documents: Document[];
  damaged: { subject: string; problem: string }[];
  next_cursor: string | null;
}

export interface Name {
  namespace: string;
  name: string;
  id: string;
  token: string;
}

export interface Node {
  address: string;
  stage: "compressor" | "decoder";
  state: string;
  problem: string | null;
  calls_in_flight: number;
  description: NodeDescription | null;
}

export interface NodeDescription {
  cascade: string;
  /** Fingerprint of the model that the node runs: the compressor's or the decoder's. */
  fingerprint: string | null;
  arithmetic: string;
  device: string;
  accelerator: string | null;
  version: string;
  ratio_min: number;
  ratio_max: number;
  ratio_default: number;
  queued_tokens: number;
  running_tokens: number;
  backlog_seconds: number;
  busy_share: number;
  /** Text tokens a second while the device computes. Null before the first batch, and for the other stage. */
  compress_tokens_per_second: number | null;
  verify_tokens_per_second: number | null;
  decode_tokens_per_second: number | null;
}

export interface Totals {
  documents: number;
  bytes: number;
  tokens: number;
  latents: number;
  windows: number;
  stored_bytes: number;
}

/** Error that the gateway reported (RFC 9457). */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly kind: string,
    detail: string,
    readonly retryAfter: number | null,
  ) {
    super(detail);
  }
}

/** No answer came from the gateway. */
export class Unreachable extends Error {
  constructor() {
    super("the gateway does not answer; the page goes on as soon as it does");
  }
}

export interface CallOptions {
  method?: string;
  headers?: Record<string, string>;
  body?: BodyInit;
  signal?: AbortSignal;
  cache?: RequestCache;
}

/** Sends a request. Throws `Problem`, `Unreachable`, or an `AbortError` if the signal ended the call. */
export async function call(path: string, options: CallOptions = {}): Promise<Response> {
  const method = options.method ?? "GET";
  const headers: Record<string, string> = { ...options.headers };
  const csrf = session.value.state === "known" ? session.value.csrf : null;
  if (csrf && method !== "GET" && method !== "HEAD") headers["x-csrf-token"] = csrf;
  let response: Response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    connection.lost();
    throw new Unreachable();
  }
  if (response.ok || response.status === 304) return response;
  throw await failure(response);
}

async function failure(response: Response): Promise<Error> {
  const isProblem = response.headers.get("content-type")?.startsWith("application/problem+json");
  // A proxy in front of the gateway answers so while the gateway is gone.
  if (!isProblem && response.status >= 502 && response.status <= 504) {
    connection.lost();
    return new Unreachable();
  }
  const body = isProblem ? await response.json().catch(() => null) : null;
  const problem = problemOf(body, response.status);
  if (problem.status === 401) void session.refresh();
  return problem;
}

/** Returns the problem that a body describes. */
export function problemOf(body: unknown, status: number): Problem {
  const { type, detail, title, retry_after } = (body ?? {}) as Record<string, string | undefined>;
  const kind = type?.split(":").pop() ?? "unknown";
  return new Problem(status, kind, detail ?? title ?? `status ${status}`, Number(retry_after) || null);
}

export async function json<T>(path: string, options?: CallOptions): Promise<T> {
  return (await call(path, options)).json();
}

/** Sends a JSON body. */
export function send(method: string, path: string, body: unknown, headers: Record<string, string> = {}) {
  const contentType = { "content-type": "application/json" };
  return call(path, { method, headers: { ...contentType, ...headers }, body: JSON.stringify(body) });
}

/** Returns the path of a document, or of a part of it such as `/text`. */
export function documentPath(id: string, part = ""): string {
  return `/v1/documents/${encodeURIComponent(id)}${part}`;
}

/** Returns the path of a name. A slash in a name stays a slash. */
export function namePath(namespace: string, name: string): string {
  const path = name.split("/").map(encodeURIComponent).join("/");
  return `/v1/names/${encodeURIComponent(namespace)}/${path}`;
}

/** Returns a sentence about an error for people. */
export function describe(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return `${message.charAt(0).toUpperCase()}${message.slice(1)}.`.replace(/\.\.$/, ".");
}

export function isAborted(error: unknown): boolean {
  return (error as Error | null)?.name === "AbortError";
}
