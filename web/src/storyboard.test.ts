import { describe, expect, it } from "vitest";
import { atDate, atSecond, read } from "./storyboard";

const sheet = "/media/b/s/thumb/0-1800000000000-10000-5x160x90-2.jpg";
const text = `WEBVTT

2027-01-15T08:00:00.000Z
00:00:00.000 --> 00:00:06.500
${sheet}#xywh=0,0,160,90

2027-01-15T08:00:06.500Z
01:00:06.500 --> 01:00:16.500
../../media/x.jpg#xywh=160,90,160,90

a cue of another kind
00:00:00.000 --> 00:00:01.000
words
`;

describe("a storyboard", () => {
  const pictures = read(text, "https://edge.example/t/token/live/b/storyboard.vtt");
  const date = Date.parse("2027-01-15T08:00:00Z");

  it("is read, with addresses from its own on", () => {
    expect(pictures).toEqual([
      { from: 0, to: 6.5, date, url: `https://edge.example${sheet}`, x: 0, y: 0, width: 160, height: 90 },
      { from: 3606.5, to: 3616.5, date: date + 6500, url: "https://edge.example/t/token/media/x.jpg", x: 160, y: 90, width: 160, height: 90 },
    ]);
    expect(read("", "https://edge.example/")).toEqual([]);
    expect(read("<html>", "https://edge.example/")).toEqual([]);
  });

  it("shows a moment of a recording or of a broadcast", () => {
    expect([0, 6.4, 6.5, 3606.5, 4000].map((at) => atSecond(pictures, at)?.x)).toEqual([0, 0, undefined, 160, undefined]);
    expect([-1, 0, 6400, 6500, 16_400].map((ms) => atDate(pictures, date + ms)?.x)).toEqual([undefined, 0, 0, 160, 160]);
    // The next one is on its way, but not for ever.
    expect([20_000, 60_000].map((ms) => atDate(pictures, date + ms)?.x)).toEqual([160, undefined]);
    expect(atDate([], date)).toBeUndefined();
  });
});
