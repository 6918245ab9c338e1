//! Watches whether the gateway answers and is ready.

import { Store } from "./store";

export type ConnectionState =
  | { kind: "unknown" }
  | { kind: "ready" }
  /** The gateway answers, but has no ready node of a stage. */
  | { kind: "not_ready"; missing: string[] }
  /** No answer arrives: the gateway is stopped, or starts, or the network between is broken. */
  | { kind: "lost"; since: number }
  /** The browser has no network. */
  | { kind: "offline" };

const INTERVAL_MS = 4000;
/** Interval while the gateway does not answer. */
const RETRY_INTERVAL_MS = 1000;

class Connection extends Store<ConnectionState> {
  private timer = 0;
  private readonly recovered = new Set<() => void>();

  start(): void {
    addEventListener("offline", () => this.change({ kind: "offline" }));
    addEventListener("online", () => void this.check());
    document.addEventListener("visibilitychange", () => document.hidden || void this.check());
    void this.check();
  }

  /** Tells that a request got no answer. */
  lost(): void {
    if (this.value.kind === "lost" || this.value.kind === "offline") return;
    this.change(navigator.onLine ? { kind: "lost", since: Date.now() } : { kind: "offline" });
    this.schedule();
  }

  /** Calls `callback` each time the gateway answers again after it did not. */
  onRecovery(callback: () => void): () => void {
    this.recovered.add(callback);
    return () => this.recovered.delete(callback);
  }

  get isUp(): boolean {
    return this.value.kind !== "lost" && this.value.kind !== "offline";
  }

  private change(state: ConnectionState): void {
    const wasUp = this.isUp;
    if (JSON.stringify(state) !== JSON.stringify(this.value)) this.set(state);
    if (!wasUp && this.isUp) for (const callback of [...this.recovered]) callback();
  }

  private schedule(): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.check(), this.isUp ? INTERVAL_MS : RETRY_INTERVAL_MS);
  }

  private async check(): Promise<void> {
    clearTimeout(this.timer);
    if (!navigator.onLine) this.change({ kind: "offline" });
    else {
      const response = await fetch("/readyz", { cache: "no-store" }).catch(() => null);
      const body: { stages?: Record<string, boolean> } | null = await response?.json().catch(() => null);
      if (!response || !body?.stages) this.lost();
      else {
        const missing = Object.keys(body.stages).filter((stage) => !body.stages![stage]);
        this.change(missing.length === 0 && response.ok ? { kind: "ready" } : { kind: "not_ready", missing });
      }
    }
    this.schedule();
  }
}

export const connection = new Connection({ kind: "unknown" });
