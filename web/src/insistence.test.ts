import { describe, expect, it } from "vitest";
import { Insistence } from "./insistence";

/** Looks twice a second for some seconds; when it goes back. */
function over(insistence: Insistence, seconds: number, left: (second: number) => boolean): number[] {
  const back: number[] = [];
  for (let second = 0.5; second <= seconds; second += 0.5) {
    if (insistence.look(left(second), 500)) back.push(second);
  }
  return back;
}

describe("a quality that was picked", () => {
  it("is gone back to soon after it was left", () => {
    const left = (second: number) => second > 10 && second <= 11;
    expect(over(new Insistence(), 60, left)).toEqual([11]);
  });

  it("is asked for less and less often where it is gone, but never given up", () => {
    expect(over(new Insistence(), 200, () => true)).toEqual([1, 3, 7, 15, 31, 63, 123, 183]);
  });

  it("is gone back to soon again once it has played", () => {
    const insistence = new Insistence();
    over(insistence, 100, () => true);
    insistence.plays();
    expect(over(insistence, 2, () => true)).toEqual([1]);
  });
});
