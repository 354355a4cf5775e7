import { describe, expect, it } from "vitest";
import { byCount, byNumberDown, facetRows, pauseBeforeSearch, plain, readSearch, toggled, writeSearch } from "./search-state";

describe("search in the URL", () => {
  it("survives a round trip with every field", () => {
    const query = {
      q: "한강 & jazz",
      tags: ["a,b", "야경"],
      resolutions: [1080, 720],
      category: ["game"],
      language: ["ko", "en"],
      sort: "started_at:asc",
      page: 3,
    };
    expect(readSearch(writeSearch(query))).toEqual(query);
  });

  it("is empty for the plain search", () => {
    expect(writeSearch(plain)).toBe("");
  });

  it("ignores what is no page, no height, or said twice", () => {
    expect(readSearch("?page=-2&resolutions=x&resolutions=720&resolutions=720&tags=&tags=a&tags=a")).toEqual({
      ...plain,
      tags: ["a"],
      resolutions: [720],
    });
    expect(readSearch("?sort=title:asc")).toEqual(plain);
  });
});

describe("facets", () => {
  it("keep a row for a selected value that nothing has", () => {
    const rows = facetRows({ jazz: 2, radio: 5 }, ["gone"], byCount, 10);
    expect(rows.map(({ value, count }) => [value, count])).toEqual([
      ["radio", 5],
      ["jazz", 2],
      ["gone", 0],
    ]);
  });

  it("are cut to the most, but never by a selected value", () => {
    const rows = facetRows({ a: 3, b: 2, c: 1 }, ["c"], byCount, 1);
    expect(rows.map(({ value }) => value)).toEqual(["a", "c"]);
  });

  it("order heights as numbers", () => {
    const rows = facetRows({ "720": 1, "1080": 1, "480": 9 }, [], byNumberDown, 10);
    expect(rows.map(({ value }) => value)).toEqual(["1080", "720", "480"]);
  });

  it("toggle on and off", () => {
    expect(toggled(toggled(["a"], "b"), "a")).toEqual(["b"]);
  });
});

describe("half-typed text", () => {
  it("waits for a syllable that is only begun", () => {
    expect(pauseBeforeSearch("한ㄱ", true, 1000)).toBeUndefined();
  });

  it("is searched under composition once its syllable stands, after a longer pause", () => {
    const composing = pauseBeforeSearch("한강", true, 1000);
    const typed = pauseBeforeSearch("한강", false, 0);
    expect(composing).toBeGreaterThan(typed ?? Infinity);
  });

  it("is searched as it stands when nothing is composed, even a lone consonant", () => {
    expect(pauseBeforeSearch("ㅋㅋ", false, 1000)).toBeDefined();
  });

  it("asks at once for a key that comes alone", () => {
    expect(pauseBeforeSearch("j", false, Infinity)).toBe(0);
    expect(pauseBeforeSearch("ja", false, 150)).toBe(0);
  });

  it("shares questions among quick keys, none of which waits for long", () => {
    // Ten keys, 20 ms apart, by a clock of our own.
    const asked: number[] = [];
    let due: number | undefined;
    for (let now = 0; now < 200 || due !== undefined; now += 1) {
      const key = now % 20 === 0 && now < 200;
      const pause = key ? pauseBeforeSearch("j", false, now - (asked.at(-1) ?? -Infinity)) : undefined;
      if (pause !== undefined) due = now + pause;
      if (now !== due) continue;
      asked.push(now);
      due = undefined;
    }
    expect(asked).toEqual([0, 60, 120, 180]);
  });
});
