//! Small parts that several pages use.

import type { ComponentChildren, FunctionComponent } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";

import { describe, isAborted } from "../lib/api";
import { connection } from "../lib/connection";
import { Store, useStore } from "../lib/store";
import { Icon } from "./icons";

/** Result of a load: nothing yet, a value, or an error. A value stays while it is loaded again. */
export interface Loaded<T> {
  value: T | null;
  error: unknown;
  reload: () => void;
}

/** Loads a value when an input changes and after the gateway was gone. */
export function useLoad<T>(load: (signal: AbortSignal) => Promise<T>, inputs: unknown[]): Loaded<T> {
  const [state, setState] = useState<{ value: T | null; error: unknown }>({ value: null, error: null });
  const [round, setRound] = useState(0);
  const reload = () => setRound((round) => round + 1);
  useEffect(() => setState({ value: null, error: null }), inputs);
  useEffect(() => connection.onRecovery(reload), []);
  useEffect(() => {
    const abort = new AbortController();
    load(abort.signal).then(
      (value) => abort.signal.aborted || setState({ value, error: null }),
      (error) => isAborted(error) || abort.signal.aborted || setState(({ value }) => ({ value, error })),
    );
    return () => abort.abort();
  }, [...inputs, round]);
  return { ...state, reload };
}

/** Loads a component when it is shown first. */
export function lazy<P extends object>(load: () => Promise<FunctionComponent<P>>): FunctionComponent<P> {
  let loaded: FunctionComponent<P> | null = null;
  return (props: P) => {
    const [, render] = useState({});
    const [error, setError] = useState<unknown>(null);
    const run = () => {
      setError(null);
      load().then((component) => ((loaded = component), render({})), setError);
    };
    useEffect(() => void (loaded || run()), []);
    const Component = loaded;
    if (Component) return <Component {...props} />;
    if (error) return <ErrorNote error="this part of the console did not load" retry={run} />;
    return <Waiting label="Loading" />;
  };
}

export function Waiting({ label, lines = 4 }: { label: string; lines?: number }) {
  return (
    <div class="waiting" role="status">
      <span class="sr-only">{label}</span>
      {Array.from({ length: lines }, (_, index) => <span class="skeleton" key={index} />)}
    </div>
  );
}

export function ErrorNote({ error, retry }: { error: unknown; retry?: () => void }) {
  return (
    <div class="note bad" role="alert">
      <Icon name="alert" />
      <p>{describe(error)}</p>
      {retry && <button type="button" onClick={retry}>Try again</button>}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

/** Number with its name. */
export function Stat({ label, value, hint, tone }: StatProps) {
  return (
    <div class="stat">
      <dt>{label}</dt>
      <dd class={tone}>{value}</dd>
      {hint && <dd class="hint">{hint}</dd>}
    </div>
  );
}

interface StatProps {
  label: string;
  value: ComponentChildren;
  hint?: ComponentChildren;
  tone?: "good" | "warn" | "bad" | undefined;
}

/** Bar that is filled to a share from 0 to 1. The element `meter` cannot be styled alike in all browsers. */
export function Meter({ share, label }: { share: number; label: string }) {
  const percent = Math.round(share * 100);
  return (
    <div class="meter" role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={percent} aria-valuetext={`${percent} %`}>
      <span style={{ width: `${percent}%` }} />
    </div>
  );
}

/** Choice of one of a few values. */
export function Segments<T extends string>({ label, value, options, onChange }: SegmentsProps<T>) {
  const name = useId();
  return (
    <fieldset class="segments">
      <legend class="sr-only">{label}</legend>
      {options.map((option) => (
        <label key={option.name}>
          <input
            type="radio"
            name={name}
            checked={option.name === value}
            onChange={() => onChange(option.name)}
          />
          <span>{option.label}</span>
        </label>
      ))}
    </fieldset>
  );
}

interface SegmentsProps<T> {
  label: string;
  value: T;
  options: readonly { name: T; label: string }[];
  onChange: (value: T) => void;
}

/** Modal dialog. The browser keeps the focus inside and returns it afterwards. */
export function Dialog({ title, onClose, children }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => element.current?.showModal(), []);
  return (
    <dialog
      ref={element}
      aria-labelledby={heading}
      onCancel={(event) => (event.preventDefault(), onClose())}
      onClick={(event) => event.target === element.current && onClose()}
    >
      <div class="dialog-body">
        <h2 id={heading}>{title}</h2>
        {children}
      </div>
    </dialog>
  );
}

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
}

const announcement = new Store("");

/** Has screen readers read a sentence aloud. */
export function announce(text: string): void {
  announcement.set(text);
}

export function Announcer() {
  return <div class="sr-only" role="status" aria-live="polite">{useStore(announcement)}</div>;
}

/** Button that copies a text and says so. */
export function Copy({ text, label }: { text: string; label: string }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await navigator.clipboard?.writeText(text).catch(() => {});
    setDone(true);
    announce("Copied");
    setTimeout(() => setDone(false), 1500);
  };
  return (
    <button type="button" class="icon-button" aria-label={label} title={label} onClick={copy}>
      <Icon name={done ? "check" : "copy"} />
    </button>
  );
}
