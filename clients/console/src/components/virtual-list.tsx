//! List that renders only the rows near the visible part of the page.

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

interface VirtualListProps {
  count: number;
  /** Height of each row in pixels. */
  height: number;
  row: (index: number) => ComponentChildren;
}

/** Rows that are rendered above and below the visible ones. */
const OVERSCAN = 4;

export function VirtualList({ count, height, row }: VirtualListProps) {
  const element = useRef<HTMLDivElement>(null);
  const [range, setRange] = useState({ first: 0, last: 20 });

  const update = () => {
    const top = -(element.current?.getBoundingClientRect().top ?? 0);
    const first = Math.max(0, Math.floor(top / height) - OVERSCAN);
    const last = Math.min(count, Math.ceil((top + innerHeight) / height) + OVERSCAN);
    setRange((range) => (range.first === first && range.last === last ? range : { first, last }));
  };
  useLayoutEffect(update, [count, height]);
  useEffect(() => {
    let frame = 0;
    const schedule = () => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(update);
    };
    addEventListener("scroll", schedule, { passive: true });
    addEventListener("resize", schedule);
    return () => {
      cancelAnimationFrame(frame);
      removeEventListener("scroll", schedule);
      removeEventListener("resize", schedule);
    };
  }, [count, height]);

  const rows = [];
  for (let index = range.first; index < Math.min(range.last, count); index += 1) rows.push(row(index));
  return (
    <div ref={element} class="virtual" role="rowgroup" style={{ height: `${count * height}px` }}>
      <div role="presentation" style={{ transform: `translateY(${range.first * height}px)` }}>{rows}</div>
    </div>
  );
}
