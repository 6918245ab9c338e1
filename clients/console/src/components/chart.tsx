//! Line charts over time. uPlot is loaded with the first chart.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import type uPlot from "uplot";

import { theme } from "../lib/theme";
import { useStore } from "../lib/store";

export interface Series {
  label: string;
  /** Name of a colour of the style sheet, such as `--compressor`. */
  color: string;
  values: (number | null)[];
  dashed?: boolean;
}

interface ChartProps {
  title: string;
  /** Unix times in seconds. */
  times: number[];
  series: Series[];
  format: (value: number) => string;
  /** Smallest value of the top of the vertical axis. */
  top?: number;
  /** Beside the title. */
  children?: ComponentChildren;
}

const HEIGHT = 150;
/** Least time that the horizontal axis covers. */
const SECONDS_MIN = 120;

let loading: Promise<typeof uPlot> | null = null;

/** Loads uPlot once. Only the first import waits for the style sheet, so all charts share it. */
function loadLibrary(): Promise<typeof uPlot> {
  loading ??= import("./uplot").then(
    (module) => module.default,
    (error) => {
      loading = null;
      throw error;
    },
  );
  return loading;
}

export function Chart({ title, times, series, format, top = 1, children }: ChartProps) {
  const element = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [library, setLibrary] = useState<typeof uPlot | null>(null);
  useStore(theme);
  const isDark = document.documentElement.dataset.theme === "dark";
  const heading = useId();

  useEffect(() => {
    void loadLibrary().then((library) => setLibrary(() => library));
  }, []);

  const shape = series.map(({ label, color }) => label + color).join();
  useEffect(() => {
    if (!library || !element.current) return;
    const style = getComputedStyle(document.documentElement);
    const color = (name: string) => style.getPropertyValue(name).trim();
    const axis = { stroke: color("--muted"), font: "11px system-ui, sans-serif", ticks: { show: false } };
    const grid = { stroke: color("--line"), width: 1 };
    const options: uPlot.Options = {
      width: element.current.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      padding: [8, 8, 0, 0],
      scales: {
        x: { range: (_, min, max) => timeRange(min, max) },
        y: { range: (_, __, max) => [0, Math.max(top, (max ?? 0) * 1.1)] },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 22, space: 90, values: (_, ticks) => ticks.map(clock) },
        { ...axis, grid, size: 54, space: 32, values: (_, ticks) => ticks.map((tick) => format(tick)) },
      ],
      series: [
        {},
        ...series.map((one) => ({
          label: one.label,
          stroke: color(one.color),
          width: 1.75,
          spanGaps: false,
          points: { show: false },
          ...(one.dashed ? { dash: [4, 3] } : {}),
        })),
      ],
    };
    const made = new library(options, [times, ...series.map((one) => one.values)], element.current);
    plot.current = made;
    const observer = new ResizeObserver(([entry]) => made.setSize({ width: entry!.contentRect.width, height: HEIGHT }));
    observer.observe(element.current);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [library, shape, isDark]);

  useEffect(() => plot.current?.setData([times, ...series.map((one) => one.values)]), [times]);

  const last = (one: Series) => {
    const value = one.values.at(-1);
    return value === null || value === undefined ? "–" : format(value);
  };
  return (
    <figure class="chart" aria-labelledby={heading}>
      <figcaption>
        <h3 id={heading}>{title}</h3>
        {children}
      </figcaption>
      <div class="plot" ref={element} aria-hidden="true" />
      <ul class="legend">
        {series.map((one) => (
          <li key={one.label}>
            <span class={`key ${one.color.slice(2)} ${one.dashed ? "dashed" : ""}`} aria-hidden="true" />
            {one.label} <b>{last(one)}</b>
          </li>
        ))}
      </ul>
    </figure>
  );
}

/** Returns the range of the horizontal axis. Without data, both arguments are null. */
function timeRange(min: number | null, max: number | null): [number, number] {
  const end = max ?? Date.now() / 1000;
  return [Math.min(min ?? end, end - SECONDS_MIN), end];
}

/** Returns a time of day. An axis without data has times near 1970, which are not shown. */
function clock(time: number): string {
  if (time < SECONDS_MIN * 1000) return "";
  return new Date(time * 1000).toTimeString().slice(0, 8);
}
