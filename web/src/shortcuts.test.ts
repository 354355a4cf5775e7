import { describe, expect, it } from "vitest";
import { commandOf } from "./shortcuts";

const press = (key: string, target: object = { tagName: "BODY" }, more: object = {}) =>
  commandOf({ key, ctrlKey: false, altKey: false, metaKey: false, isComposing: false, target: target as EventTarget, ...more });

describe("keys of the watch page", () => {
  it("are known in either case", () => {
    const keys = [" ", "k", "K", "m", "f", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "l", "?"];
    expect(keys.map((key) => press(key))).toEqual([
      "toggle",
      "toggle",
      "toggle",
      "mute",
      "fullscreen",
      "back",
      "forward",
      "louder",
      "quieter",
      "live",
      "help",
    ]);
    expect(press("x")).toBeUndefined();
  });

  it("do nothing where somebody types or chooses", () => {
    for (const target of [
      { tagName: "INPUT", type: "text" },
      { tagName: "INPUT", type: "search" },
      { tagName: "TEXTAREA" },
      { tagName: "SELECT" },
      { tagName: "DIV", isContentEditable: true },
    ]) {
      for (const key of [" ", "k", "m", "f", "l", "?", "ArrowLeft"]) expect(press(key, target)).toBeUndefined();
    }
    expect(press("k", undefined, { isComposing: true })).toBeUndefined();
    expect(press("f", undefined, { ctrlKey: true })).toBeUndefined();
  });

  it("leave a control its own keys", () => {
    expect(press(" ", { tagName: "BUTTON" })).toBeUndefined();
    expect(press("m", { tagName: "BUTTON" })).toBe("mute");
    expect(press("ArrowLeft", { tagName: "INPUT", type: "range" })).toBeUndefined();
    expect(press("k", { tagName: "INPUT", type: "range" })).toBe("toggle");
  });
});
