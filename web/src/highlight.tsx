// Search matches arrive between two private-use characters instead of tags:
// the title stays text all the way, and nothing in it can become markup.
const open = "\uE000";
const close = "\uE001";

export interface Segment {
  text: string;
  marked: boolean;
}

export function segments(text: string): Segment[] {
  const found: Segment[] = [];
  let marked = false;
  let from = 0;
  const push = (to: number) => {
    if (to > from) found.push({ text: text.slice(from, to), marked });
    from = to + 1;
  };
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at];
    if (char !== open && char !== close) continue;
    push(at);
    marked = char === open;
  }
  push(text.length);
  return found;
}

export function Highlighted({ text }: { text: string }) {
  return segments(text).map(({ text: part, marked }, index) =>
    marked ? <mark key={index}>{part}</mark> : <span key={index}>{part}</span>,
  );
}
