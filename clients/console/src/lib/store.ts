//! Observable values that components subscribe to.

import { useEffect, useState } from "preact/hooks";

/** Holds a value and tells its subscribers when it changes. */
export class Store<T> {
  private readonly subscribers = new Set<() => void>();

  constructor(private current: T) {}

  get value(): T {
    return this.current;
  }

  set(value: T): void {
    this.current = value;
    for (const subscriber of [...this.subscribers]) subscriber();
  }

  /** Calls `subscriber` after each change until the returned function is called. */
  subscribe(subscriber: () => void): () => void {
    this.subscribers.add(subscriber);
    return () => this.subscribers.delete(subscriber);
  }
}

/** Returns the value of a store and renders the component again when it changes. */
export function useStore<T>(store: Store<T>): T {
  const [, render] = useState({});
  const value = store.value;
  useEffect(() => {
    const update = () => render({});
    // The value may have changed after the component was rendered and before this effect.
    if (store.value !== value) update();
    return store.subscribe(update);
  }, [store]);
  return value;
}
