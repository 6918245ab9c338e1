//! Heat map of a document's windows: the more tokens are corrected, the stronger the colour.

import { useEffect, useRef, useState } from "preact/hooks";

import * as format from "../lib/format";
import { correctedShare, type Window } from "../lib/latents";
import { useStore } from "../lib/store";
import { theme } from "../lib/theme";

interface HeatMapProps {
  windows: Window[];
  selected: number | null;
  onSelect: (index: number) => void;
}

const GAP = 2;
/** Share of corrected tokens that has the strongest colour. */
const SHARE_MAX = 0.2;
/** Sides of a cell in pixels, from a few windows to many. */
const SIDES: [windows: number, side: number][] = [[40, 30], [200, 20], [1000, 14], [Infinity, 8]];

export function HeatMap({ windows, selected, onSelect }: HeatMapProps) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [hovered, setHovered] = useState<number | null>(null);
  useStore(theme);
  const themeName = document.documentElement.dataset.theme;

  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry!.contentRect.width)));
    observer.observe(box.current!);
    return () => observer.disconnect();
  }, []);

  const side = SIDES.find(([count]) => windows.length <= count)![1];
  const columns = Math.max(1, Math.floor((width + GAP) / (side + GAP)));
  const height = Math.ceil(windows.length / columns) * (side + GAP) - GAP;

  useEffect(() => {
    const target = canvas.current;
    const context = target?.getContext("2d");
    if (!target || !context || width === 0) return;
    const scale = devicePixelRatio || 1;
    target.width = width * scale;
    target.height = height * scale;
    context.scale(scale, scale);
    const style = getComputedStyle(document.documentElement);
    const [low, high] = [rgb(style.getPropertyValue("--heat-low")), rgb(style.getPropertyValue("--heat-high"))];
    const unknown = style.getPropertyValue("--line");
    windows.forEach((window, index) => {
      const share = correctedShare(window);
      context.fillStyle = share === null ? unknown : mix(low, high, Math.sqrt(Math.min(1, share / SHARE_MAX)));
      context.fillRect((index % columns) * (side + GAP), Math.floor(index / columns) * (side + GAP), side, side);
    });
    for (const [index, color] of [[hovered, "--muted"], [selected, "--text"]] as const) {
      if (index === null || index >= windows.length) continue;
      context.strokeStyle = style.getPropertyValue(color);
      context.lineWidth = 2;
      context.strokeRect((index % columns) * (side + GAP) + 1, Math.floor(index / columns) * (side + GAP) + 1, side - 2, side - 2);
    }
  }, [windows, width, selected, hovered, themeName]);

  const at = (event: MouseEvent) => {
    const { left, top } = canvas.current!.getBoundingClientRect();
    const column = Math.floor((event.clientX - left) / (side + GAP));
    const index = Math.floor((event.clientY - top) / (side + GAP)) * columns + column;
    return column < columns && index >= 0 && index < windows.length ? index : null;
  };
  const keys: Record<string, number> = {
    ArrowRight: 1,
    ArrowLeft: -1,
    ArrowDown: columns,
    ArrowUp: -columns,
    Home: -windows.length,
    End: windows.length,
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const step = keys[event.key];
    if (step === undefined) return;
    event.preventDefault();
    onSelect(Math.min(windows.length - 1, Math.max(0, (selected ?? 0) + step)));
  };
  const shown = windows[hovered ?? selected ?? -1];
  return (
    <div class="heat">
      <div
        ref={box}
        class="heat-box"
        role="slider"
        tabIndex={0}
        aria-label="Window"
        aria-valuemin={1}
        aria-valuemax={windows.length}
        aria-valuenow={(selected ?? 0) + 1}
        aria-valuetext={windows[selected ?? 0] ? describeWindow(windows[selected ?? 0]!) : undefined}
        style={{ minHeight: `${Math.max(side, height)}px` }}
        onKeyDown={onKeyDown}
        onClick={(event) => {
          const index = at(event);
          if (index !== null) onSelect(index);
        }}
        onMouseMove={(event) => setHovered(at(event))}
        onMouseLeave={() => setHovered(null)}
      >
        <canvas ref={canvas} style={{ width: `${width}px`, height: `${Math.max(0, height)}px` }} />
      </div>
      <p class="heat-foot">
        <span>{shown ? describeWindow(shown) : "Choose a window to decode it."}</span>
        <span class="heat-scale"><span>0 %</span><span class="heat-ramp" aria-hidden="true" /><span>{SHARE_MAX * 100} % corrected</span></span>
      </p>
    </div>
  );
}

function describeWindow(window: Window): string {
  const corrections = window.corrections
    ? `${format.plural(window.corrections.length, "correction")} (${format.percent(correctedShare(window), 1)})`
    : "not verified";
  return `Window ${window.index + 1}: ${format.plural(window.tokens, "token")}, ${format.plural(window.latents, "latent")}, ${corrections}`;
}

function rgb(color: string): number[] {
  const digits = color.trim().slice(1);
  return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16));
}

function mix(low: number[], high: number[], share: number): string {
  return `rgb(${low.map((value, index) => Math.round(value + (high[index]! - value) * share)).join(" ")})`;
}
