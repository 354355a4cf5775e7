// Judges whether a line is good for a picture, or for the sound alone, while the viewer
// leaves that to the page. Pure.

/** What is seen at one moment. */
export interface LineSight {
  /** Whether it plays what it plays only because the line gives no more. */
  slow: boolean;
  /** Whether it waits for more of it. */
  waits: boolean;
  /** Whether there is more than it has, so that it is the line that it waits for. */
  more: boolean;
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
// The picture is tried again on a line that has been this much faster than it needs,
// for this long; after each time that it did not hold, twice as long.
const headroom = 1.5;
const firstReturnMs = 15_000;
const lastReturnMs = 300_000;
// A picture that has held for so long was no mistake, whatever becomes of the line then.
const longHeldMs = 120_000;

export class Line {
  private waitedMs = 0;
  private fastMs = 0;
  private heldMs = 0;
  private returnMs = firstReturnMs;

  /** To be told what is seen each `elapsedMs`; answers what to do about it. */
  look({ slow, waits, more, brings, lightest }: LineSight, elapsedMs: number): Turn {
    if (slow) {
      this.fastMs = !waits && brings > lightest * headroom ? this.fastMs + elapsedMs : 0;
      if (this.fastMs < this.returnMs) return "stay";
      this.returnMs = Math.min(2 * this.returnMs, lastReturnMs);
      this.forget();
      return "picture";
    }
    const starves = waits && more;
    this.waitedMs = Math.max(0, this.waitedMs + (starves ? elapsedMs : -elapsedMs * forgetting));
    if (starves) this.heldMs = 0;
    else if (!waits) this.heldMs += elapsedMs;
    if (this.heldMs >= longHeldMs) this.returnMs = firstReturnMs;
    if (this.waitedMs < patienceMs) return "stay";
    this.forget();
    return "sound";
  }

  /** It was not played, or something else: waits and haste of before say nothing any more. */
  forget(): void {
    this.waitedMs = this.fastMs = 0;
  }
}
