//! List that renders only the rows near the visible part of the page.

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

interface VirtualListProps {
  count: number;
  /** Height of each row in pixels. */
  height: number;
  row: (index: number) => ComponentChildren;
}

/** Rows that are rendered above and below the visible ones. */
const OVERSCAN = 4;
/** Maximum rows that a frame adds at each end. After a jump, the rows come in a few frames, each of them short. */
const STEP = 10;

interface Range {
  first: number;
  last: number;
}

export function VirtualList({ count, height, row }: VirtualListProps) {
  const element = useRef<HTMLDivElement>(null);
  const [range, setRange] = useState<Range>({ first: 0, last: STEP });

  const wanted = (): Range => {
    const top = -(element.current?.getBoundingClientRect().top ?? 0);
    const first = Math.min(count, Math.max(0, Math.floor(top / height) - OVERSCAN));
    return { first, last: Math.max(first, Math.min(count, Math.ceil((top + innerHeight) / height) + OVERSCAN)) };
  };
  useLayoutEffect(() => {
    let frame = 0;
    const schedule = () => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(update);
    };
    const update = () =>
      setRange((range) => {
        const goal = wanted();
        const next = approach(range, goal);
        if (next.first !== goal.first || next.last !== goal.last) schedule();
        return next.first === range.first && next.last === range.last ? range : next;
      });
    update();
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

/** Returns a range that is closer to `goal` by at most `STEP` rows at each end. */
function approach(range: Range, goal: Range): Range {
  const kept = { first: Math.max(range.first, goal.first), last: Math.min(range.last, goal.last) };
  if (kept.first >= kept.last) return { first: goal.first, last: Math.min(goal.last, goal.first + STEP) };
  return { first: Math.max(goal.first, kept.first - STEP), last: Math.min(goal.last, kept.last + STEP) };
}
