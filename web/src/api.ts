// Typed client of the Live API (same origin). Everything that crosses the
// network goes through `request`, so that every failure, whatever its cause,
// reaches the pages as one `ApiError` with a status and, where the server gave
// one, a stable code.

export type BroadcastState = "idle" | "live" | "interrupted" | "ended";

export interface Status {
  state: BroadcastState;
  session_id?: string | null;
  started_at?: string | null;
  ended_at?: string | null;
}

export interface SourceVideo {
  codec: string;
  width: number;
  height: number;
  frame_rate_milli: number;
}

export interface SourceAudio {
  codec: string;
  sample_rate: number;
  channels: number;
}

export interface Rendition {
  name: string;
  kind: string;
  width: number;
  height: number;
  frame_rate_milli: number;
  codec: string;
}

export interface Metadata {
  /** The session that it describes; an earlier one's stays until the next has its own. */
  session_id?: string | null;
  video?: SourceVideo | null;
  audio?: SourceAudio | null;
  renditions: Rendition[];
}

export interface Options {
  category?: string;
  language?: string;
  visibility?: "public" | "private";
  latency_mode?: "low" | "normal";
}

export interface Broadcast {
  id: string;
  owner: string;
  title: string;
  tags: string[];
  options: Options;
  status: Status;
  metadata: Metadata | null;
  playback_url: string | null;
  publish_key?: { state: "issued" | "revoked" };
  /** Sequence of the newest entry of each kind. */
  versions: Record<string, number>;
}

export interface Hit {
  id: string;
  title: string;
  tags: string[];
  owner: string;
  category?: string;
  language?: string;
  /** Available heights in pixels, highest first. */
  resolutions: number[];
  /** Frames per second. */
  frame_rate: number;
  started_at: string;
  viewers: number;
  /** Matches are enclosed in U+E000 and U+E001. */
  highlighted?: { title?: string };
}

export type FacetCounts = Record<string, number>;

export interface SearchAnswer {
  hits: Hit[];
  total: number;
  page: number;
  page_size: number;
  facets: { tags?: FacetCounts; resolutions?: FacetCounts; category?: FacetCounts; language?: FacetCounts };
  took_ms: number;
}

export interface SearchQuery {
  q: string;
  tags: string[];
  resolutions: number[];
  page: number;
}

export interface Ingest {
  rtmp_url: string;
  rtmps_url?: string | null;
}

export interface Created {
  broadcast: Broadcast;
  publish_key: string;
  ingest: Ingest;
}

/** Limits of the entry schema, so that a form can say no before the server does. */
export const limits = { title: 140, tags: 16, tag: 32, category: 64 } as const;

export const pageSize = 20;

// A request that hangs longer than this counts as unanswered: the page shows
// so and tries again instead of waiting for ever.
const timeoutMs = 15_000;

/** Why a request failed. Status 0: no answer at all, or not one of this API. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly code: string | undefined;

  constructor(status: number, message: string, code?: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

interface Call {
  method?: "GET" | "POST" | "PUT" | "DELETE";
  token?: string | undefined;
  body?: unknown;
  signal?: AbortSignal | undefined;
}

async function request<T>(path: string, call: Call = {}): Promise<T> {
  const headers = new Headers({ accept: "application/json, application/problem+json" });
  if (call.token) headers.set("authorization", `Bearer ${call.token}`);
  const init: RequestInit = { method: call.method ?? "GET", headers, cache: "no-store" };
  if (call.body !== undefined) {
    headers.set("content-type", "application/json");
    init.body = JSON.stringify(call.body);
  }
  const limit = AbortSignal.timeout(timeoutMs);
  init.signal = call.signal ? AbortSignal.any([call.signal, limit]) : limit;

  let response: Response;
  let text: string;
  try {
    response = await fetch(path, init);
    text = await response.text();
  } catch (cause) {
    throw new ApiError(0, cause instanceof Error ? cause.message : String(cause));
  }
  const type = response.headers.get("content-type") ?? "";
  const body = /[/+]json\b/.test(type) ? parse(text) : undefined;
  if (!response.ok) {
    const problem = (body ?? {}) as { title?: string; detail?: string; code?: string };
    throw new ApiError(response.status, problem.detail ?? problem.title ?? response.statusText, problem.code);
  }
  if (text !== "" && body === undefined) {
    // Something else answers on this address, e.g. a file server's fallback page.
    throw new ApiError(0, `unexpected content type ${type || "(none)"}`);
  }
  return body as T;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function broadcastPath(id: string, rest = ""): string {
  return `/v1/broadcasts/${encodeURIComponent(id)}${rest}`;
}

export function search(query: SearchQuery, signal?: AbortSignal): Promise<SearchAnswer> {
  const params = new URLSearchParams();
  if (query.q) params.set("q", query.q);
  for (const tag of query.tags) params.append("tags", tag);
  for (const height of query.resolutions) params.append("resolutions", String(height));
  // With words the best match comes first; without, the newest broadcast.
  if (!query.q) params.set("sort", "started_at:desc");
  params.set("page", String(query.page));
  params.set("page_size", String(pageSize));
  return request(`/v1/search?${params}`, { signal });
}

export function liveBroadcasts(signal?: AbortSignal): Promise<{ items: Broadcast[] }> {
  return request("/v1/broadcasts?state=live&limit=50", { signal });
}

export function ownBroadcasts(token: string, signal?: AbortSignal): Promise<{ items: Broadcast[] }> {
  return request("/v1/broadcasts?limit=50", { token, signal });
}

export function broadcast(id: string, signal?: AbortSignal): Promise<Broadcast> {
  return request(broadcastPath(id), { signal });
}

export function createBroadcast(
  token: string,
  body: { title: string; tags: string[]; options: Options },
): Promise<Created> {
  return request("/v1/broadcasts", { method: "POST", token, body });
}

// Edits wait until the state that the lists read has them, so that a refresh
// right after a save shows what was saved.
export function setTitle(token: string, id: string, title: string): Promise<{ sequence: number }> {
  return request(broadcastPath(id, "/title?wait=applied"), { method: "PUT", token, body: { title } });
}

export function setTags(token: string, id: string, tags: string[]): Promise<{ sequence: number }> {
  return request(broadcastPath(id, "/tags?wait=applied"), { method: "PUT", token, body: { tags } });
}

export function rotateKey(token: string, id: string): Promise<{ publish_key: string; ingest?: Ingest }> {
  return request(broadcastPath(id, "/publish-key/rotate"), { method: "POST", token });
}

export function revokeKey(token: string, id: string): Promise<void> {
  return request(broadcastPath(id, "/publish-key"), { method: "DELETE", token });
}

export function deleteBroadcast(token: string, id: string): Promise<void> {
  return request(broadcastPath(id), { method: "DELETE", token });
}
