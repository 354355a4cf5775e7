// The search page's state as it stands in the URL, and the rule for when
// half-typed text is searched. Pure, so that reload, back and links just work.
import type { FacetCounts, SearchQuery } from "./api";

/** Parameters of which a URL may hold several values. */
export const facets = ["tags", "resolutions", "category", "language"] as const;
export type FacetName = (typeof facets)[number];

/** What can be sorted by; empty is the best match, or, without words, the newest. */
export const sorts = ["", "started_at:desc", "started_at:asc"] as const;

export const plain: SearchQuery = { q: "", tags: [], resolutions: [], category: [], language: [], sort: "", page: 1 };

/** Reads a URL's query string; whatever does not belong to a search is ignored. */
export function readSearch(search: string): SearchQuery {
  const params = new URLSearchParams(search);
  const page = Number(params.get("page"));
  const sort = params.get("sort") ?? "";
  const texts = (name: string) => unique(params.getAll(name).filter((value) => value !== ""));
  return {
    q: params.get("q") ?? "",
    tags: texts("tags"),
    resolutions: unique(texts("resolutions").map(Number).filter((height) => Number.isInteger(height) && height > 0)),
    category: texts("category"),
    language: texts("language"),
    sort: (sorts as readonly string[]).includes(sort) ? sort : "",
    page: Number.isInteger(page) && page > 1 ? page : 1,
  };
}

/** The query string of a search, empty for the plain one; equal searches give equal strings. */
export function writeSearch(query: SearchQuery): string {
  const params = new URLSearchParams();
  if (query.q) params.set("q", query.q);
  for (const name of facets) for (const value of query[name]) params.append(name, String(value));
  if (query.sort) params.set("sort", query.sort);
  if (query.page > 1) params.set("page", String(query.page));
  const text = params.toString();
  return text === "" ? "" : `?${text}`;
}

/** How many values are chosen over all facets. */
export function chosen(query: SearchQuery): number {
  return facets.reduce((sum, name) => sum + query[name].length, 0);
}

/** The search without any chosen value. */
export function unfiltered(query: SearchQuery): SearchQuery {
  return { ...plain, q: query.q, sort: query.sort };
}

/** The search with a value of a facet put on or taken off. */
export function toggledFacet(query: SearchQuery, name: FacetName, value: string): SearchQuery {
  const next = { ...query, page: 1 };
  if (name === "resolutions") next.resolutions = toggled(query.resolutions, Number(value));
  else next[name] = toggled(query[name], value);
  return next;
}

export function toggled<T>(list: T[], value: T): T[] {
  return list.includes(value) ? list.filter((one) => one !== value) : [...list, value];
}

function unique<T>(list: T[]): T[] {
  return [...new Set(list)];
}

export interface FacetRow {
  value: string;
  count: number;
  selected: boolean;
}

/**
 * The rows of a facet in `order`. A selected value always has a row, with
 * count 0 if need be, so that it can be taken off again.
 */
export function facetRows(
  counts: FacetCounts | undefined,
  selected: string[],
  order: (a: FacetRow, b: FacetRow) => number,
  most: number,
): FacetRow[] {
  const all = { ...Object.fromEntries(selected.map((value) => [value, 0])), ...counts };
  const rows = Object.entries(all)
    // A broadcast that does not say counts under the empty value.
    .filter(([value]) => value !== "")
    .map(([value, count]) => ({ value, count, selected: selected.includes(value) }))
    .sort(order);
  return rows.filter((row, index) => index < most || row.selected);
}

export function byCount(a: FacetRow, b: FacetRow): number {
  return b.count - a.count || a.value.localeCompare(b.value);
}

export function byNumberDown(a: FacetRow, b: FacetRow): number {
  return Number(b.value) - Number(a.value);
}

// Results follow a key within 150 ms, so a key that comes alone asks at once; of
// keys that follow quickly, all within this time of a question share the next.
const questionsApartMs = 60;
// A composed Korean word has no end event until the next key, so text under
// composition is searched as well, after a pause that quick typing does not make.
const composingPauseMs = 80;
const endsInLoneJamo = /[\u1100-\u11ff\u3131-\u318e]$/u;

/**
 * How long to wait before searching `text`, of which another letter may follow,
 * when the last question is so many milliseconds old; undefined: not as it
 * stands, because its last syllable is only begun.
 */
export function pauseBeforeSearch(text: string, composing: boolean, sinceAskedMs: number): number | undefined {
  if (!composing) return Math.max(0, questionsApartMs - sinceAskedMs);
  return endsInLoneJamo.test(text) ? undefined : composingPauseMs;
}
