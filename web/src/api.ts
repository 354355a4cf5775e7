// Typed client of the Live API (same origin), made from its OpenAPI document
// (see ../openapi). Every failure, whatever its cause, reaches the pages as one
// `ApiError` with a status and, where the server gave one, a stable code. Who is
// signed in is known by a cookie that no script can read.
import createClient from "openapi-fetch";
import { noteDate } from "./clock";
import type { components, paths } from "./schema";

type Schemas = components["schemas"];
export type Broadcast = Schemas["Broadcast"];
export type BroadcastState = Schemas["State"];
export type Metadata = Schemas["Metadata"];
export type Options = Schemas["Options"];
export type Hit = Schemas["Hit"];
export type SearchAnswer = Schemas["Answer"];
export type Session = Schemas["Session"];
export type Ingest = Schemas["Ingest"];
export type Created = Schemas["Created"];
export type NewKey = Schemas["NewKey"];
export type PlaybackToken = Schemas["PlaybackToken"];
export type TitleChange = Schemas["TitleChange"];
export type Recording = Schemas["Recording"];
export type HealthSample = Schemas["HealthSample"];
export type StreamCounts = Schemas["StreamCounts"];
export type StoredEntry = Schemas["StoredEntry"];
export type Consumer = Schemas["Consumer"];
export type DeadLetter = Schemas["DeadLetter"];
export type LetterAttempt = Schemas["LetterAttempt"];
export type FacetCounts = Record<string, number>;

/** Limits of the entry schema, so that a form can say no before the server does. */
export const limits = { title: 140, tags: 16, tag: 32, category: 64 } as const;

export const pageSize = 24;

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

// The first answer about broadcasts may be one that the browser asked for while
// the page was still loading, because the server told it to.
let mayBePreloaded = true;

/** No later than when the request was sent, in milliseconds since 1970. */
function sentBy(url: string): number {
  if (!mayBePreloaded || !new URL(url).pathname.startsWith("/v1/broadcasts")) return Date.now();
  mayBePreloaded = false;
  return performance.timeOrigin;
}

const client = createClient<paths>({
  cache: "no-store",
  fetch: async (request) => {
    const limit = AbortSignal.timeout(timeoutMs);
    const sent = sentBy(request.url);
    const response = await fetch(new Request(request, { signal: AbortSignal.any([request.signal, limit]) }));
    noteDate(response.headers.get("date"), sent, Date.now());
    return response;
  },
});

type Outcome<T> = { data?: T; error?: unknown; response: Response };

async function answer<T>(asked: Promise<Outcome<T>>): Promise<T> {
  let outcome: Outcome<T>;
  try {
    outcome = await asked;
  } catch (cause) {
    throw new ApiError(0, cause instanceof Error ? cause.message : String(cause));
  }
  const { data, error, response } = outcome;
  if (!response.ok) {
    const problem = (typeof error === "object" && error !== null ? error : {}) as Partial<Schemas["Problem"]>;
    throw new ApiError(response.status, problem.detail ?? problem.title ?? response.statusText, problem.code);
  }
  return data as T;
}

type Signal = { signal?: AbortSignal | undefined };

function by(id: string, signal?: AbortSignal) {
  return { params: { path: { id } }, ...(signal && { signal }) };
}

export interface SearchQuery {
  q: string;
  tags: string[];
  resolutions: number[];
  category: string[];
  language: string[];
  /** Empty: the best match first, or, without words, the newest. */
  sort: string;
  page: number;
}

export function search(query: SearchQuery, signal?: AbortSignal): Promise<SearchAnswer> {
  const { q, sort, page, ...facets } = query;
  const params = { ...facets, page, page_size: pageSize, ...(q && { q }), ...(sort && { sort }) };
  return answer(client.GET("/v1/search", { params: { query: params }, ...(signal && { signal }) }));
}

export async function liveBroadcasts(signal?: AbortSignal): Promise<Broadcast[]> {
  const query = { state: "live", limit: 100 };
  return (await answer(client.GET("/v1/broadcasts", { params: { query }, ...(signal && { signal }) }))).items;
}

export async function ownBroadcasts(signal?: AbortSignal): Promise<Broadcast[]> {
  const query = { limit: 200 };
  return (await answer(client.GET("/v1/broadcasts", { params: { query }, ...(signal && { signal }) }))).items;
}

export function broadcast(id: string, signal?: AbortSignal): Promise<Broadcast> {
  return answer(client.GET("/v1/broadcasts/{id}", by(id, signal)) as Promise<Outcome<Broadcast>>);
}

// Longer than most people watch; it is renewed.
const playbackSeconds = 4 * 3600;

export function playbackToken(id: string, signal?: AbortSignal): Promise<PlaybackToken> {
  return answer(client.POST("/v1/broadcasts/{id}/playback-tokens", { ...by(id, signal), body: { lifetime_s: playbackSeconds } }));
}

export async function titles(id: string, signal?: AbortSignal): Promise<TitleChange[]> {
  return (await answer(client.GET("/v1/broadcasts/{id}/titles", by(id, signal)))).items;
}

export async function recordings(id: string, signal?: AbortSignal): Promise<Recording[]> {
  return (await answer(client.GET("/v1/broadcasts/{id}/recordings", by(id, signal)))).items;
}

export async function health(id: string, minutes: number, signal?: AbortSignal): Promise<HealthSample[]> {
  const params = { path: { id }, query: { minutes } };
  return (await answer(client.GET("/v1/broadcasts/{id}/health", { params, ...(signal && { signal }) }))).samples;
}

export function createBroadcast(body: { title: string; tags: string[]; options: Partial<Options> }): Promise<Created> {
  const params = { query: { wait: "applied" } };
  return answer(client.POST("/v1/broadcasts", { params, body: body as Schemas["NewBroadcast"] }));
}

// Edits wait until the state that the lists read has them, so that a refresh
// right after a save shows what was saved.
function applied(id: string) {
  return { params: { path: { id }, query: { wait: "applied" } } };
}

export async function setTitle(id: string, title: string): Promise<void> {
  await answer(client.PUT("/v1/broadcasts/{id}/title", { ...applied(id), body: { title } }));
}

export async function setTags(id: string, tags: string[]): Promise<void> {
  await answer(client.PUT("/v1/broadcasts/{id}/tags", { ...applied(id), body: { tags } }));
}

export async function setOptions(id: string, options: Options): Promise<void> {
  await answer(client.PUT("/v1/broadcasts/{id}/options", { ...applied(id), body: options }));
}

export function rotateKey(id: string): Promise<NewKey> {
  return answer(client.POST("/v1/broadcasts/{id}/publish-key/rotate", applied(id)));
}

export async function revokeKey(id: string): Promise<void> {
  await answer(client.DELETE("/v1/broadcasts/{id}/publish-key", applied(id)));
}

export async function deleteBroadcast(id: string): Promise<void> {
  await answer(client.DELETE("/v1/broadcasts/{id}", applied(id)));
}

export function ingest(signal?: AbortSignal): Promise<Ingest> {
  return answer(client.GET("/v1/ingest", signal ? { signal } : {}));
}

export function session({ signal }: Signal = {}): Promise<Session> {
  return answer(client.GET("/v1/session", signal ? { signal } : {}));
}

export async function signIn(token: string): Promise<void> {
  await answer(client.POST("/v1/session", { body: { token } }));
}

export async function signOut(): Promise<void> {
  await answer(client.DELETE("/v1/session"));
}

export async function streams(signal?: AbortSignal): Promise<StreamCounts[]> {
  return (await answer(client.GET("/v1/log/streams", signal ? { signal } : {}))).streams;
}

export function subjects(kind: string, signal?: AbortSignal): Promise<Schemas["Subjects"]> {
  const params = { query: { kind, limit: 50 } };
  return answer(client.GET("/v1/log/subjects", { params, ...(signal && { signal }) }));
}

export function entry(stream: string, seq: number, signal?: AbortSignal): Promise<StoredEntry> {
  const params = { path: { stream, seq } };
  return answer(client.GET("/v1/log/streams/{stream}/entries/{seq}", { params, ...(signal && { signal }) }));
}

export async function consumers(signal?: AbortSignal): Promise<Consumer[]> {
  return (await answer(client.GET("/v1/log/consumers", signal ? { signal } : {}))).consumers;
}

export function deadLetters(signal?: AbortSignal): Promise<Schemas["DeadLetters"]> {
  return answer(client.GET("/v1/log/dead-letters", signal ? { signal } : {}));
}

export function deadLetter(id: number, signal?: AbortSignal): Promise<DeadLetter> {
  const params = { path: { id } };
  return answer(client.GET("/v1/log/dead-letters/{id}", { params, ...(signal && { signal }) }));
}

export async function letterAttempts(signal?: AbortSignal): Promise<LetterAttempt[]> {
  return (await answer(client.GET("/v1/log/dead-letters/attempts", signal ? { signal } : {}))).items;
}

export async function redrive(id: number): Promise<void> {
  await answer(client.POST("/v1/log/dead-letters/{id}/redrive", { params: { path: { id } } }));
}
