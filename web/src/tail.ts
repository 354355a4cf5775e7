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

/** Where to go on reading behind an event. */
export function behind(url: string, id: string): string {
  return id === "" ? url : `${url}${url.includes("?") ? "&" : "?"}last_event_id=${encodeURIComponent(id)}`;
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
// Between attempts, each wait twice the one before.
const firstRetryMs = 1000;
const lastRetryMs = 30_000;

export class Tail {
  private rows: LogRow[] = [];
  private waiting: LogRow[] = [];
  private dropped = 0;
  private paused = false;
  private state: TailView["state"] = "connecting";
  private timer: number | undefined;
  private source: EventSource;
  /** Id of the newest event that came. */
  private newest = "";
  private failures = 0;
  private retryTimer: number | undefined;

  constructor(
    private readonly url: string,
    private readonly kinds: readonly string[],
    private readonly onChange: (view: TailView) => void,
  ) {
    this.source = this.connect();
  }

  private connect(): EventSource {
    const source = new EventSource(behind(this.url, this.newest));
    source.addEventListener("open", () => {
      this.failures = 0;
      this.became("open");
    });
    source.addEventListener("error", () => {
      this.became("lost");
      // After a lost connection the browser connects again by itself, after an answer that
      // is no stream it never does.
      if (source.readyState === EventSource.CLOSED) this.retry();
    });
    const take = (event: MessageEvent<string>) => {
      this.newest = event.lastEventId;
      this.take(rowOf(event.data));
    };
    for (const kind of [...this.kinds, "undecodable"]) source.addEventListener(kind, take);
    return source;
  }

  private retry(): void {
    const wait = Math.min(firstRetryMs * 2 ** this.failures, lastRetryMs);
    this.failures += 1;
    this.retryTimer = window.setTimeout(() => (this.source = this.connect()), wait);
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
    window.clearTimeout(this.retryTimer);
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
