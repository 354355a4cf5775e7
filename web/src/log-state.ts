// The event explorer's state as it stands in the URL. Pure.

export const streamNames = ["BROAD_INFO", "LIVE_STREAM", "LIVE_SEGMENT", "LIVE_TELEMETRY"] as const;

export const kindNames = {
  BROAD_INFO: ["registration", "publish_key", "title", "tags", "options"],
  LIVE_STREAM: ["auth", "status", "metadata"],
  LIVE_SEGMENT: ["segment"],
  LIVE_TELEMETRY: ["health", "viewers"],
} as const satisfies Record<(typeof streamNames)[number], string[]>;

export const allKinds: string[] = Object.values(kindNames).flat();

export interface LogQuery {
  /** Empty: what the server takes for usual, all but segments and telemetry. */
  stream: string;
  kind: string;
  broadcast: string;
  text: string;
  /** "now", "all", "seq:12" or "time:2026-01-01T00:00". */
  from: string;
}

export const plainLog: LogQuery = { stream: "", kind: "", broadcast: "", text: "", from: "now" };

const id = /^[0-9a-hjkmnp-tv-z]{26}$/;

export function readLog(search: string): LogQuery {
  const params = new URLSearchParams(search);
  const stream = params.get("stream") ?? "";
  const kind = params.get("kind") ?? "";
  const from = params.get("from") ?? "now";
  return {
    stream: (streamNames as readonly string[]).includes(stream) ? stream : "",
    kind: allKinds.includes(kind) ? kind : "",
    broadcast: params.get("broadcast") ?? "",
    text: params.get("text") ?? "",
    from: startOf(from) ? from : "now",
  };
}

export function writeLog(query: LogQuery): string {
  const params = new URLSearchParams();
  for (const name of ["stream", "kind", "broadcast", "text"] as const) if (query[name]) params.set(name, query[name]);
  if (query.from !== "now") params.set("from", query.from);
  const text = params.toString();
  return text === "" ? "" : `?${text}`;
}

type Start = { kind: "now" | "all" } | { kind: "seq"; seq: number } | { kind: "time"; time: Date };

/** Undefined when the text is no start. */
export function startOf(from: string): Start | undefined {
  if (from === "now" || from === "all") return { kind: from };
  const [kind, value = ""] = [from.slice(0, from.indexOf(":")), from.slice(from.indexOf(":") + 1)];
  if (kind === "seq" && /^\d{1,15}$/.test(value) && Number(value) > 0) return { kind, seq: Number(value) };
  if (kind === "time" && !Number.isNaN(Date.parse(value))) return { kind, time: new Date(value) };
  return undefined;
}

/** The stream that a sequence is one of; empty when more than one is read. */
export function oneStream({ stream, kind }: LogQuery): string {
  if (stream) return stream;
  return streamNames.find((name) => (kindNames[name] as readonly string[]).includes(kind)) ?? "";
}

/**
 * Where the server sends what is asked for. The text is looked for here, among
 * what has come. Undefined: the broadcast is no id, so there is nothing.
 */
export function eventsUrl(query: LogQuery): string | undefined {
  if (query.broadcast && !id.test(query.broadcast)) return undefined;
  const params = new URLSearchParams();
  const stream = oneStream(query);
  if (stream) params.set("stream", stream);
  if (query.kind) params.set("kind", query.kind);
  if (query.broadcast) params.set("broadcast", query.broadcast);
  const start = startOf(query.from);
  if (start?.kind === "all") params.set("from_time", "1970-01-01T00:00:00Z");
  if (start?.kind === "time") params.set("from_time", start.time.toISOString());
  if (start?.kind === "seq" && stream) params.set("from_seq", String(start.seq));
  const text = params.toString();
  return text === "" ? "/v1/events" : `/v1/events?${text}`;
}
