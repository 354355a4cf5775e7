// What a stream looked like along its time line: the pictures of the storyboard that
// stands beside its playlist. Asked for when somebody points at the time line.

export interface Picture {
  /** Seconds on the time line of a recording. */
  from: number;
  to: number;
  /** Milliseconds since 1970 at `from`. */
  date: number;
  /** The image that it is in, and where. */
  url: string;
  x: number;
  y: number;
  width: number;
  height: number;
}

/** What is newer than the newest picture looks like that one, for as long as the next may take. */
const newestLastsMs = 30_000;
/** A live one has another picture each ten seconds. */
const refreshMs = 5000;

const cue = /^(\d{4}-\S+)\n(\d+):(\d+):([\d.]+) --> (\d+):(\d+):([\d.]+)\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)$/;

/** The pictures that a storyboard at `base` tells of, in the order of time. */
export function read(text: string, base: string): Picture[] {
  const pictures: Picture[] = [];
  for (const block of text.trim().split("\n\n").slice(1)) {
    const found = cue.exec(block);
    if (!found) continue;
    const [h1, m1, s1, h2, m2, s2] = found.slice(2, 8).map(Number) as [number, number, number, number, number, number];
    const [x, y, width, height] = found.slice(9).map(Number) as [number, number, number, number];
    const date = Date.parse(found[1] ?? "");
    const url = new URL(found[8] ?? "", base).href;
    pictures.push({ from: h1 * 3600 + m1 * 60 + s1, to: h2 * 3600 + m2 * 60 + s2, date, url, x, y, width, height });
  }
  return pictures;
}

/** The picture at a second of a recording. */
export function atSecond(pictures: Picture[], at: number): Picture | undefined {
  return pictures.find(({ from, to }) => from <= at && at < to);
}

/** The picture at a date, in milliseconds since 1970. */
export function atDate(pictures: Picture[], date: number): Picture | undefined {
  const found = pictures.find((picture) => picture.date <= date && date < end(picture));
  if (found) return found;
  const last = pictures.at(-1);
  return last && date >= last.date && date < end(last) + newestLastsMs ? last : undefined;
}

function end({ date, from, to }: Picture): number {
  return date + (to - from) * 1000;
}

/** The storyboard beside a playlist. */
export class Storyboard {
  private pictures: Picture[] = [];
  private loading: Promise<void> | undefined;
  private loadedAt = -Infinity;
  private readonly url: string;

  constructor(
    playlist: string,
    private readonly recorded: boolean,
  ) {
    this.url = new URL(playlist.replace(/\/index\.m3u8$/, "/storyboard.vtt"), window.location.href).href;
  }

  /** All of it that there is now; nothing where there is none. */
  async look(): Promise<Picture[]> {
    const age = performance.now() - this.loadedAt;
    if (age > (this.recorded && this.pictures.length > 0 ? Infinity : refreshMs)) await (this.loading ??= this.load());
    return this.pictures;
  }

  private async load(): Promise<void> {
    try {
      const answer = await fetch(this.url);
      if (answer.ok) this.pictures = read(await answer.text(), this.url);
    } catch {
      // The network is back at another time.
    }
    this.loadedAt = performance.now();
    this.loading = undefined;
  }
}
