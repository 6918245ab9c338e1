//! The session: whether keys are needed, who signed in, and what the key allows.

import { Store } from "./store";

export type Scope = "read" | "write" | "delete" | "admin";

interface Known {
  state: "known";
  required: boolean;
  signed_in: boolean;
  tenant: string | null;
  key: string | null;
  scopes: Scope[];
  csrf: string | null;
}

export type SessionState = { state: "loading" } | Known;

const PATH = "/console/session";

const RETRY_INTERVAL_MS = 1000;

class Session extends Store<SessionState> {
  /** Asks the gateway for the session until it answers. */
  async begin(): Promise<void> {
    while (!(await this.refresh())) await new Promise((resolve) => setTimeout(resolve, RETRY_INTERVAL_MS));
  }

  /** Asks the gateway for the session. Keeps the known one if the gateway does not answer. */
  async refresh(): Promise<boolean> {
    const response = await fetch(PATH, { cache: "no-store" }).catch(() => null);
    const body = response?.ok ? await response.json().catch(() => null) : null;
    if (body) this.set({ state: "known", ...body });
    return body !== null;
  }

  /** Signs in. Returns what went wrong, or null. */
  async signIn(key: string): Promise<string | null> {
    const headers = { "content-type": "application/json", ...this.csrf() };
    const response = await fetch(PATH, { method: "POST", headers, body: JSON.stringify({ key }) }).catch(() => null);
    const body = await response?.json().catch(() => null);
    if (response?.ok && body) {
      this.set({ state: "known", ...body });
      return null;
    }
    if (!response || response.status >= 502) return "The gateway does not answer. Try again in a moment.";
    if (response.status === 401) return "This key is not valid: it is unknown, expired or revoked.";
    return body?.detail ?? `The gateway answered with status ${response.status}.`;
  }

  async signOut(): Promise<void> {
    await fetch(PATH, { method: "DELETE", headers: this.csrf() }).catch(() => null);
    await this.refresh();
  }

  /** Returns whether calls that need the scope are allowed. */
  may(scope: Scope): boolean {
    const session = this.value;
    return session.state === "known" && (!session.required || session.scopes.includes(scope));
  }

  private csrf(): Record<string, string> {
    const token = this.value.state === "known" ? this.value.csrf : null;
    return token ? { "x-csrf-token": token } : {};
  }
}

export const session = new Session({ state: "loading" });
