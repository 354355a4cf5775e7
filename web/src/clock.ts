// How far the clock of this device is from the server's, as far as answers tell:
// each says the second in which it was sent. A clock that agrees with all of
// them counts as right.
let lowest = -Infinity;
let highest = Infinity;

/** Takes the `Date` of an answer, and when its request was sent and it was there, in milliseconds. */
export function noteDate(date: string | null, sent: number, received: number): void {
  const second = date === null ? NaN : Date.parse(date);
  if (Number.isNaN(second)) return;
  const low = second - received;
  const high = second + 1000 - sent;
  // A clock that was set in between: what was known before is void.
  const jumped = low > highest || high < lowest;
  lowest = jumped ? low : Math.max(lowest, low);
  highest = jumped ? high : Math.min(highest, high);
}

/** The server's time in milliseconds. */
export function serverNow(): number {
  return Date.now() + Math.min(Math.max(0, lowest), highest);
}
