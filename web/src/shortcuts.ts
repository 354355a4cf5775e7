// Keys of the watch page. They do nothing where somebody types, and leave to a
// control what it does with a key itself. Pure but for the type of an event.
export type Command = "toggle" | "mute" | "fullscreen" | "back" | "forward" | "louder" | "quieter" | "live" | "help";

const commands: Record<string, Command> = {
  " ": "toggle",
  k: "toggle",
  m: "mute",
  f: "fullscreen",
  arrowleft: "back",
  arrowright: "forward",
  arrowup: "louder",
  arrowdown: "quieter",
  l: "live",
  "?": "help",
};

interface KeyPress {
  key: string;
  ctrlKey: boolean;
  altKey: boolean;
  metaKey: boolean;
  isComposing: boolean;
  target: EventTarget | null;
}

/** What a key press asks for; undefined: nothing, or not of us. */
export function commandOf(press: KeyPress): Command | undefined {
  if (press.ctrlKey || press.altKey || press.metaKey || press.isComposing) return undefined;
  const command = commands[press.key.toLowerCase()];
  const target = press.target as Partial<HTMLInputElement> | null;
  const tag = target?.tagName?.toLowerCase();
  if (target?.isContentEditable || tag === "textarea" || tag === "select") return undefined;
  if (tag === "input") {
    // Sliders take arrows; what takes text takes everything.
    const slider = target?.type === "range";
    if (!slider || press.key.startsWith("Arrow")) return undefined;
  }
  if ((tag === "button" || tag === "a" || tag === "summary") && press.key === " ") return undefined;
  return command;
}
