import { describe, expect, it } from "vitest";
import { elapsed, parseTags, resolution } from "./format";
import { segments } from "./highlight";
import { match, paths } from "./router";

describe("highlighted titles", () => {
  it("part at the marks and keep markup as text", () => {
    expect(segments("a <b>\uE000jazz\uE001</b> \uE000x\uE001")).toEqual([
      { text: "a <b>", marked: false },
      { text: "jazz", marked: true },
      { text: "</b> ", marked: false },
      { text: "x", marked: true },
    ]);
  });

  it("lose no text to marks without a partner", () => {
    const text = (title: string) => segments(title).map((part) => part.text).join("");
    expect(text("\uE001a\uE000b")).toBe("ab");
    expect(text("")).toBe("");
  });
});

describe("values as people read them", () => {
  it("count hours past a day and never below zero", () => {
    expect(elapsed("2026-01-01T00:00:00Z", Date.parse("2026-01-02T01:02:03Z"))).toBe("25:02:03");
    expect(elapsed("2026-01-01T00:00:05Z", Date.parse("2026-01-01T00:00:00Z"))).toBe("0:00:00");
    expect(elapsed("", 0)).toBe("");
  });

  it("name the frame rate only where it is high", () => {
    expect([resolution(720, 30), resolution(1080, 59.94), resolution(480, 0)]).toEqual(["720p", "1080p60", "480p"]);
  });

  it("read tags however they are separated", () => {
    expect(parseTags(" #a, b ,,a\n##한강 ")).toEqual(["a", "b", "한강"]);
  });
});

describe("routes", () => {
  it("find each page by the path that links to it", () => {
    expect(match(paths.live)).toEqual({ page: "live" });
    expect(match(paths.search)).toEqual({ page: "search" });
    expect(match(paths.studio)).toEqual({ page: "studio" });
    expect(match(paths.watch("01k"))).toEqual({ page: "watch", id: "01k" });
    expect(match(paths.tag("a/b 한?#%"))).toEqual({ page: "tag", tag: "a/b 한?#%" });
  });

  it("know no other", () => {
    for (const path of ["/watch", "/x", "/tags/%E0%A4%A", "/watch/a/b"]) {
      expect(match(path)).toEqual({ page: "not-found" });
    }
  });
});
