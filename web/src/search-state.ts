// The search page's state as it stands in the URL, and the rule for when
// half-typed text may be searched. Pure: no DOM, no clock.
import type { FacetCounts, SearchQuery } from "./api";

export function readSearch(search: string): SearchQuery {
  const params = new URLSearchParams(search);
  const page = Number(params.get("page") ?? "1");
  return {
    q: params.get("q") ?? "",
    tags: unique(params.getAll("tags").filter((tag) => tag !== "")),
    resolutions: unique(params.getAll("resolutions").map(Number).filter((height) => Number.isInteger(height) && height > 0)),
    page: Number.isInteger(page) && page > 0 ? page : 1,
  };
}

/** The query string of a search, "" for the plain one; equal searches give equal strings. */
export function writeSearch(query: SearchQuery): string {
  const params = new URLSearchParams();
  if (query.q) params.set("q", query.q);
  for (const tag of query.tags) params.append("tags", tag);
  for (const height of query.resolutions) params.append("resolutions", String(height));
  if (query.page > 1) params.set("page", String(query.page));
  const text = params.toString();
  return text === "" ? "" : `?${text}`;
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

const typingPauseMs = 180;
// A composed Korean word has no end event until the next key, so text under
// composition is searched as well, after a pause that typing does not make.
const composingPauseMs = 400;
const endsInLoneJamo = /[\u1100-\u11ff\u3131-\u318e]$/u;

/**
 * How long to wait before searching `text`; undefined: not as it stands,
 * because its last syllable is only begun.
 */
export function pauseBeforeSearch(text: string, composing: boolean): number | undefined {
  if (!composing) return typingPauseMs;
  return endsInLoneJamo.test(text) ? undefined : composingPauseMs;
}
