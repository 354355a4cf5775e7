// How fast a live player plays, so that it comes to its distance from the end and
// stays there: each start and each stall leaves it further behind. Pure.

/** Where a player is; all in seconds of media. */
export interface Place {
  /** From the end of what there is. */
  behind: number;
  /** What it should be behind. */
  target: number;
  /** Loaded and not yet played. */
  ahead: number;
  /** Longest part; 0 = the stream has none. */
  part: number;
  /** Whether the viewer has gone back, or has paused. */
  stays: boolean;
}

/** A few per cent are not heard; browsers keep the pitch. */
export const faster = 1.06;
// Further behind is where a viewer who has gone back wants to be.
const reach = 4;
// It begins only for what is worth it, and does not stop just to begin again.
const begins = 0.2;
const ends = 0.03;

/** The rate to play at, for a player that plays at `rate`. */
export function paced({ behind, target, ahead, part, stays }: Place, rate: number): number {
  const late = behind - target;
  const hurries = rate > 1;
  const wanted = late > (hurries ? ends : begins) && !(stays && late >= reach);
  // While one part plays, the next one is on its way.
  const fed = ahead > part * (hurries ? 1 : 2);
  return part > 0 && wanted && fed ? faster : 1;
}

/** Whether a player is where it should be, whatever its viewer did before. */
export function arrived({ behind, target }: Place): boolean {
  return behind - target <= begins;
}
