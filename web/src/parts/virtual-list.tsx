// A list of very many rows of one height, of which only those in sight are in
// the document. It follows its end until somebody scrolls up.
import { type ReactNode, useEffect, useLayoutEffect, useRef, useState } from "react";
import { flushSync } from "react-dom";

interface Props<T> {
  rows: T[];
  rowHeight: number;
  label: string;
  columns: string[];
  keyOf: (row: T) => string;
  render: (row: T) => ReactNode;
  /** Whether new rows scroll the list. */
  follow: boolean;
  /** Somebody has scrolled away from the end, or back to it. */
  onAtEnd: (atEnd: boolean) => void;
}

// Rows beside those in sight, so that scrolling shows no holes.
const spare = 12;

export function VirtualList<T>({ rows, rowHeight, label, columns, keyOf, render, follow, onAtEnd }: Props<T>) {
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);

  useEffect(() => {
    const holder = box.current;
    if (!holder) return;
    const resized = new ResizeObserver(() => setHeight(holder.clientHeight));
    resized.observe(holder);
    return () => resized.disconnect();
  }, []);

  useLayoutEffect(() => {
    const holder = box.current;
    if (follow && holder) holder.scrollTop = holder.scrollHeight;
  }, [follow, rows.length]);

  const first = Math.max(0, Math.floor(top / rowHeight) - spare);
  const last = Math.min(rows.length, Math.ceil((top + height) / rowHeight) + spare);

  const scrolled = () => {
    const holder = box.current;
    if (!holder) return;
    // Before the next picture, however busy the page is: it would show an empty list.
    flushSync(() => setTop(holder.scrollTop));
    onAtEnd(holder.scrollHeight - holder.scrollTop - holder.clientHeight < rowHeight);
  };

  return (
    <div ref={box} className="virtual" tabIndex={0} role="region" aria-label={label} onScroll={scrolled}>
      <div role="table" aria-label={label} aria-rowcount={rows.length + 1} style={{ height: rows.length * rowHeight }}>
        <div role="row" className="visually-hidden" aria-rowindex={1}>
          {columns.map((column) => (
            <span key={column} role="columnheader">
              {column}
            </span>
          ))}
        </div>
        {rows.slice(first, last).map((row, place) => (
          <div
            key={keyOf(row)}
            role="row"
            className="virtual-row"
            aria-rowindex={first + place + 2}
            style={{ top: (first + place) * rowHeight, height: rowHeight }}
          >
            {render(row)}
          </div>
        ))}
      </div>
    </div>
  );
}
