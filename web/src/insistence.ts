// When to go back to the quality that the viewer has picked: after an error hls.js chooses by
// itself, and never goes back. Its `preserveManualLevelOnError` is no remedy: where there is no
// such quality any more, it asks for it without a pause, and no picture moves. Pure.

// A server that is started again is away for so long; one that is gone is asked less and less often.
const firstMs = 1000;
const longestMs = 60_000;

export class Insistence {
  private patienceMs = firstMs;
  private goneMs = 0;

  /** To be told each `elapsedMs` whether it was left; answers whether to go back to it now. */
  look(left: boolean, elapsedMs: number): boolean {
    this.goneMs = left ? this.goneMs + elapsedMs : 0;
    if (this.goneMs < this.patienceMs) return false;
    this.goneMs = 0;
    this.patienceMs = Math.min(2 * this.patienceMs, longestMs);
    return true;
  }

  /** Media of it has come: what was the matter is over. */
  plays(): void {
    this.patienceMs = firstMs;
    this.goneMs = 0;
  }
}
