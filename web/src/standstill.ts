// Notices that a stream does not play on although it should: now and then an engine of
// media waits without an error for what never comes. Pure.

/** What is seen at one moment; times in seconds of media. */
export interface Sight {
  /** Where it plays. */
  at: number;
  /** How far it is loaded from there on without a gap. */
  loadedTo: number;
  /** Where a live viewer should be; undefined = unknown, or no live stream. */
  edge: number | undefined;
  /** Whether it should play: nobody has paused it, and there is somebody who sends. */
  should: boolean;
}

/** Nothing, go to where a live viewer should be, or begin with a new engine. */
export type Remedy = "none" | "edge" | "anew";

// Longer than a stall of a slow line, or than another worker takes to go on.
const firstPatienceMs = 10_000;
const longestPatienceMs = 80_000;
// Going to the edge helps only where that is somewhere else.
const elsewhere = 1;
// A position that changes by more was sought.
const longestStep = 2;
// After so much that was played it is as patient as at first; and after so much what
// helped has helped, and it is not the engine that is to blame.
const well = 5;
const healed = 60;

export class Standstill {
  private at = 0;
  private loadedTo = 0;
  private stoodMs = 0;
  private played = 0;
  private sought = false;
  private patienceMs = firstPatienceMs;

  /** To be told what is seen each `elapsedMs`; answers what to do about it. */
  look(sight: Sight, elapsedMs: number): Remedy {
    const step = sight.at - this.at;
    const stands = step === 0 && sight.loadedTo <= this.loadedTo;
    this.at = sight.at;
    this.loadedTo = sight.loadedTo;
    if (step > 0 && step <= longestStep) this.played += step;
    if (this.played > well) this.patienceMs = firstPatienceMs;
    if (this.played > healed) this.sought = false;
    this.stoodMs = stands && sight.should ? this.stoodMs + elapsedMs : 0;
    if (this.stoodMs < this.patienceMs) return "none";
    this.stoodMs = this.played = 0;
    if (!this.sought && sight.edge !== undefined && sight.edge > sight.at + elsewhere) {
      this.sought = true;
      return "edge";
    }
    // There may be nothing to play: that is asked less and less often.
    this.patienceMs = Math.min(2 * this.patienceMs, longestPatienceMs);
    return "anew";
  }
}
