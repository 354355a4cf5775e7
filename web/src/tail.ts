// The log as it comes, over server-sent events: what is shown of it, what waits
// while a person reads, and how much was skipped. Rows are bounded.
export interface LogRow {
  /** Where it stands: stream and sequence. */
  key: string;
  stream: string;
  seq: number;
  subject: string;
  kind: string;
  broadcast: string;
  /** RFC 3339; empty for what is no entry. */
  time: string;
  /** What it says, in one line. */
  summary: string;
  /** What text is looked for in. */
  haystack: string;
}

/** Most rows that are kept: past it the oldest go. */
export const mostRows = 100_000;

interface Said {
  stream: string;
  seq: number;
  subject: string;
  time?: string;
  data?: unknown;
  error?: string;
}

export function rowOf(json: string): LogRow {
  const said = JSON.parse(json) as Said;
  const [, , kind = "", broadcast = ""] = said.subject.split(".");
  const summary = said.error ?? JSON.stringify(said.data ?? null);
  return {
    key: `${said.stream} ${said.seq}`,
    stream: said.stream,
    seq: said.seq,
    subject: said.subject,
    kind,
    broadcast,
    time: said.time ?? "",
    summary,
    haystack: `${said.subject} ${summary}`.toLowerCase(),
  };
}

/** Whether a row has all words of a text, in whatever case. */
export function has(row: LogRow, words: string[]): boolean {
  return words.every((word) => row.haystack.includes(word));
}

export function wordsOf(text: string): string[] {
  return text.toLowerCase().split(/\s+/).filter((word) => word !== "");
}

export interface TailView {
  rows: LogRow[];
  /** Came while paused, and are not among the rows yet. */
  waiting: number;
  /** Were dropped because more came than is kept. */
  dropped: number;
  state: "connecting" | "open" | "lost";
}

/** Shows at most this often, however fast entries come. */
const showMs = 100;

export class Tail {
  private rows: LogRow[] = [];
  private waiting: LogRow[] = [];
  private dropped = 0;
  private paused = false;
  private state: TailView["state"] = "connecting";
  private timer: number | undefined;
  private readonly source: EventSource;

  constructor(
    url: string,
    kinds: readonly string[],
    private readonly onChange: (view: TailView) => void,
  ) {
    this.source = new EventSource(url);
    this.source.addEventListener("open", () => this.became("open"));
    // The browser connects again by itself, behind the last event that it has.
    this.source.addEventListener("error", () => this.became("lost"));
    const take = (event: MessageEvent<string>) => this.take(rowOf(event.data));
    for (const kind of [...kinds, "undecodable"]) this.source.addEventListener(kind, take);
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.rows.push(...this.waiting);
    this.waiting = [];
    this.bound(this.rows);
    this.show();
  }

  close(): void {
    window.clearTimeout(this.timer);
    this.source.close();
  }

  private take(row: LogRow): void {
    const list = this.paused ? this.waiting : this.rows;
    list.push(row);
    this.bound(list);
    this.later();
  }

  private bound(list: LogRow[]): void {
    // In lumps, since taking off the first of many moves all the others.
    if (list.length <= mostRows * 1.1) return;
    this.dropped += list.length - mostRows;
    list.splice(0, list.length - mostRows);
  }

  private became(state: TailView["state"]): void {
    this.state = state;
    this.later();
  }

  private later(): void {
    this.timer ??= window.setTimeout(() => this.show(), showMs);
  }

  private show(): void {
    window.clearTimeout(this.timer);
    this.timer = undefined;
    const { waiting, dropped, state } = this;
    // The list itself grows on; who shows it gets one that stands still.
    this.onChange({ rows: this.rows.slice(), waiting: waiting.length, dropped, state });
  }
}
