// Values as people read them. Pure; the language comes in as a value.

/** Running time as h:mm:ss. */
export function elapsed(sinceIso: string, now: number): string {
  const since = Date.parse(sinceIso);
  if (Number.isNaN(since)) return "";
  // A server clock slightly ahead of this one must not show a negative time.
  const seconds = Math.max(0, Math.floor((now - since) / 1000));
  return `${Math.floor(seconds / 3600)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}

/** A length as m:ss, or h:mm:ss past an hour. */
export function elapsedSeconds(length: number): string {
  const seconds = Math.max(0, Math.round(length));
  const minutes = Math.floor(seconds / 60);
  return minutes < 60
    ? `${minutes}:${two(seconds % 60)}`
    : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(seconds % 60)}`;
}

/** Date and time, to the minute, or to the second with `medium`. */
export function dateTime(iso: string, language: string, timeStyle: "short" | "medium" = "short"): string {
  const time = Date.parse(iso);
  if (Number.isNaN(time)) return "";
  return new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle }).format(time);
}

export function count(value: number, language: string): string {
  return new Intl.NumberFormat(language, { notation: value >= 10_000 ? "compact" : "standard" }).format(value);
}

/** "1080p", or "1080p60" for what moves faster than film and television did. */
export function resolution(height: number, framesPerSecond: number): string {
  return framesPerSecond >= 45 ? `${height}p${Math.round(framesPerSecond)}` : `${height}p`;
}

/** Free text to a tag set: commas or line ends part tags, a leading # is decoration. */
export function parseTags(text: string): string[] {
  const tags = text
    .split(/[,\n]/)
    .map((tag) => tag.trim().replace(/^#+/, "").trim())
    .filter((tag) => tag !== "");
  return [...new Set(tags)];
}

/** The name of a language in another; the tag itself when it is no well-formed one. */
export function languageName(tag: string, inLanguage: string): string {
  try {
    return new Intl.DisplayNames(inLanguage, { type: "language" }).of(tag) ?? tag;
  } catch {
    return tag;
  }
}
