//! Icons, drawn on a grid of 16.

const PATHS = {
  overview: "M2 13.5h12M3.5 11V8M6.5 11V4.5M9.5 11V6.5M12.5 11V2.5",
  nodes: "M2.5 3h11v4h-11zM2.5 9h11v4h-11zM5 5h.01M5 11h.01",
  documents: "M4 1.8h5.5L12.5 5v9.2H4zM9.2 2v3.2h3.2M6 8h4.5M6 10.8h4.5",
  try: "M4.5 2.5v11l8.5-5.5z",
  alert: "M8 2 1.8 13.2h12.4zM8 6.5v3M8 11.4h.01",
  check: "M3 8.5l3.2 3.2L13 4.8",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  download: "M8 2.5v7.5M4.8 7 8 10.2 11.2 7M2.8 13.5h10.4",
  edit: "M3 13l.600-2.8L10.8 3l2.2 2.2-7.2 7.2zM9.4 4.4l2.2 2.2",
  trash: "M2.8 4.3h10.4M6.3 4.3V2.5h3.4v1.8M4.2 4.3l.600 9.2h6.4l.600-9.2",
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM10.6 10.6 14 14",
  left: "M10 3 5 8l5 5",
  right: "M6 3l5 5-5 5",
  sun: "M8 5a3 3 0 1 1 0 6 3 3 0 0 1 0-6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1.1 1.1M11.9 11.9 13 13M3 13l1.1-1.1M11.9 4.1 13 3",
  moon: "M13.5 9.5A5.8 5.8 0 0 1 6.5 2.5a5.8 5.8 0 1 0 7 7z",
  system: "M2 3h12v8H2zM6 13.5h4",
  plus: "M8 3v10M3 8h10",
  close: "M4 4l8 8M12 4l-8 8",
  shield: "M8 1.8 13 3.6v4c0 3-2 5.2-5 6.6-3-1.4-5-3.6-5-6.6v-4zM5.7 8l1.7 1.7 3-3.2",
  exit: "M6.5 2.5h-4v11h4M10 5l3 3-3 3M13 8H6",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
