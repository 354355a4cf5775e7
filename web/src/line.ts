// Judges whether a line is good for a picture, or for the sound alone, while the viewer
// leaves that to the page. Pure.

/** A piece of media that is loaded, or a part of one; both in seconds. */
export interface Load {
  /** From the request to the last byte, or until now. */
  took: number;
  /** How long it plays. */
  plays: number;
}

/** What is seen at one moment. */
export interface LineSight {
  /** Whether it plays what it plays only because the line gives no more. */
  slow: boolean;
  /** Whether it waits for more of it. */
  waits: boolean;
  /** Whether there is more than it has. */
  more: boolean;
  /** What of it is being loaded. */
  underWay: Load | undefined;
  /** Bits per second that the line brings. */
  brings: number;
  /** Bits per second of the lightest picture. */
  lightest: number;
}

/** Stay with what plays, go over to the sound alone, or back to the picture. */
export type Turn = "stay" | "sound" | "picture";

// So much waiting is more than ordinary buffering.
const patienceMs = 4000;
// Waits are forgotten this much slower than they add up: a picture that stands still
// for a fifth of the time is none.
const forgetting = 1 / 4;
// A line that loads media in less of the time that it plays is not what is waited for: the
// encoder may just have come back. Judged by the last so many seconds of media.
const late = 0.8;
const judged = 2;
// The picture is tried again on a line that has been this much faster than it needs,
// for this long; after each time that it did not hold, twice as long.
const headroom = 1.5;
const firstReturnMs = 15_000;
const lastReturnMs = 300_000;
// A picture that has held for so long was no mistake, whatever becomes of the line then.
const longHeldMs = 120_000;

const total = (loads: Load[], of: keyof Load) => loads.reduce((sum, load) => sum + load[of], 0);

export class Line {
  private waitedMs = 0;
  private fastMs = 0;
  private heldMs = 0;
  private returnMs = firstReturnMs;
  private loads: Load[] = [];

  /** To be told of each load of media that plays. */
  loaded(load: Load): void {
    this.loads.push(load);
    while (total(this.loads.slice(1), "plays") >= judged) this.loads.shift();
  }

  /** To be told what is seen each `elapsedMs`; answers what to do about it. */
  look({ slow, waits, more, underWay, brings, lightest }: LineSight, elapsedMs: number): Turn {
    if (slow) {
      this.fastMs = !waits && brings > lightest * headroom ? this.fastMs + elapsedMs : 0;
      if (this.fastMs < this.returnMs) return "stay";
      this.returnMs = Math.min(2 * this.returnMs, lastReturnMs);
      this.forget();
      return "picture";
    }
    const starves = waits && more && this.isLate(underWay);
    this.waitedMs = Math.max(0, this.waitedMs + (starves ? elapsedMs : -elapsedMs * forgetting));
    if (starves) this.heldMs = 0;
    else if (!waits) this.heldMs += elapsedMs;
    if (this.heldMs >= longHeldMs) this.returnMs = firstReturnMs;
    if (this.waitedMs < patienceMs) return "stay";
    this.forget();
    return "sound";
  }

  /** It was not played, or something else: what was seen before says nothing any more. */
  forget(): void {
    this.waitedMs = this.fastMs = 0;
    this.loads = [];
  }

  /** Whether media comes hardly faster than it plays. */
  private isLate(underWay: Load | undefined): boolean {
    const loads = underWay && underWay.took > underWay.plays ? [...this.loads, underWay] : this.loads;
    return total(loads, "took") > late * total(loads, "plays");
  }
}
