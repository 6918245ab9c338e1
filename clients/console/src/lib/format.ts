//! Numbers and times for people.

const integer = new Intl.NumberFormat("en");

export function count(value: number): string {
  return integer.format(Math.round(value));
}

/** Formats a rate or another number with about three digits. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toFixed(size >= 1e7 ? 0 : 1)}M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(size >= 1e5 ? 0 : 1)}k`;
  if (size >= 100) return count(value);
  if (size >= 10) return value.toFixed(0);
  return size === 0 ? "0" : value.toFixed(size >= 1 ? 1 : 2);
}

/** Formats tokens a second with two or three digits. */
export function rate(value: number | null): string {
  if (value === null) return "–";
  return value >= 1000 && value < 10_000 ? `${(value / 1000).toFixed(1)}k tok/s` : `${short(value)} tok/s`;
}

export function bytes(value: number): string {
  if (value < 1024) return `${count(value)} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let scaled = value / 1024;
  let unit = 0;
  while (scaled >= 1000 && unit < units.length - 1) {
    scaled /= 1024;
    unit += 1;
  }
  return `${scaled.toFixed(scaled >= 100 ? 0 : scaled >= 10 ? 1 : 2)} ${units[unit]}`;
}

export function seconds(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0 s";
  if (value < 0.001) return "< 1 ms";
  if (value < 1) return `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms`;
  if (value < 100) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  return value < 5400 ? `${Math.round(value / 60)} min` : `${(value / 3600).toFixed(1)} h`;
}

export function percent(value: number | null, digits = 0): string {
  return value === null || !Number.isFinite(value) ? "–" : `${(value * 100).toFixed(digits)} %`;
}

/** Formats a fidelity. Never rounds up to 100 %. */
export function fidelity(value: number | null): string {
  if (value === null) return "not verified";
  if (value === 1) return "100 %";
  const digits = value < 0.99 ? 1 : 2;
  const scale = 10 ** digits;
  return `${(Math.floor(value * 100 * scale) / scale).toFixed(digits)} %`;
}

export function ratio(value: number): string {
  return value === 0 ? "mixed" : `${value}x`;
}

const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export function date(value: string): string {
  return dateTime.format(new Date(value));
}

export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}
