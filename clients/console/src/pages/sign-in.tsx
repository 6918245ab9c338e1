//! Sign-in with an API key.

import { useState } from "preact/hooks";

import { address } from "../lib/router";
import { session } from "../lib/session";

export function SignIn() {
  const [problem, setProblem] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    const key = String(new FormData(event.target as HTMLFormElement).get("key")).trim();
    if (key === "") return setProblem("Enter a key.");
    setBusy(true);
    setProblem(await session.signIn(key));
    setBusy(false);
  };
  return (
    <main class="sign-in">
      <form class="panel" onSubmit={submit}>
        <img src={`${address("/")}icon.svg`} alt="" width="40" height="40" />
        <h1>Sign in to C3 Serve</h1>
        <p class="muted">Enter an API key. What you see depends on the scopes of the key.</p>
        <label for="key">API key</label>
        <input
          id="key"
          name="key"
          type="password"
          autocomplete="current-password"
          spellcheck={false}
          autoFocus
          aria-invalid={problem !== null}
          aria-describedby="key-problem"
        />
        <p id="key-problem" class="field-problem" role="alert">{problem}</p>
        <button type="submit" class="primary" disabled={isBusy}>{isBusy ? "Signing in…" : "Sign in"}</button>
        <p class="hint">An operator creates keys with <code>c3 key create</code>. The browser keeps the session in a cookie that scripts cannot read.</p>
      </form>
    </main>
  );
}
