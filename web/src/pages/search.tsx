// Search over what is live: as you type, with facets, kept fresh so that ended
// broadcasts leave by themselves. The URL holds the whole state.
import { useRef, useSyncExternalStore } from "react";
import { search, type SearchAnswer, type SearchQuery } from "../api";
import { count, languageName } from "../format";
import { useSpeech } from "../i18n";
import { cardOfHit, Cards } from "../parts/cards";
import { Facet } from "../parts/facet";
import { Pages } from "../parts/pages";
import { SearchBox } from "../parts/search-box";
import { Empty, Failure, ListLoading, StaleWarning, usePageTitle } from "../parts/states";
import { usePolled } from "../poll";
import { Link, navigate, paths, useLocation } from "../router";
import {
  byCount,
  byNumberDown,
  chosen,
  type FacetName,
  facetRows,
  facets,
  readSearch,
  sorts,
  toggledFacet,
  unfiltered,
  writeSearch,
} from "../search-state";

const refreshMs = 2000;
// More values than this are a wall, not a choice; the rest are found by typing.
const mostRows = 16;

export function SearchPage() {
  const { t } = useSpeech();
  const query = readSearch(useLocation().search);
  usePageTitle(query.q ? `${query.q} – ${t("nav.search")}` : t("nav.search"));
  const key = writeSearch(query);
  const answer = usePolled(key, (signal) => search(query, signal), refreshMs);
  // One history entry per search session, not per letter: the first letter
  // pushes, further typing replaces.
  const typing = useRef(false);

  const go = (next: SearchQuery, how: { replace?: boolean } = {}) => navigate(paths.search + writeSearch(next), how);
  const type = (q: string) => {
    if (q === query.q) return;
    go({ ...query, q, page: 1 }, { replace: typing.current });
    typing.current = true;
  };
  const submit = (q: string) => {
    if (q === query.q) answer.refresh();
    else go({ ...query, q, page: 1 }, { replace: typing.current });
    typing.current = false;
  };
  const choose = (next: SearchQuery) => {
    typing.current = false;
    go(next);
  };

  return (
    <div className="page page-search">
      <h1 className="visually-hidden">{t("search.heading")}</h1>
      <SearchBox value={query.q} onType={type} onSubmit={submit} autoFocus />
      <div className="search-columns">
        <Filters query={query} counts={answer.data?.facets} choose={choose} />
        <section className="results" aria-label={t("search.results")}>
          <Results query={query} answer={answer} choose={choose} />
        </section>
      </div>
    </div>
  );
}

interface Choosing {
  query: SearchQuery;
  choose: (next: SearchQuery) => void;
}

function Filters({ query, counts, choose }: Choosing & { counts: SearchAnswer["facets"] | undefined }) {
  const { t, language } = useSpeech();
  const wide = useWide();
  const n = chosen(query);
  const label: Record<FacetName, (value: string) => string> = {
    tags: (tag) => `#${tag}`,
    resolutions: (height) => `${height}p`,
    category: (category) => category,
    language: (tag) => languageName(tag, language),
  };
  const shown = (
    <div className="filters">
      {facets.map((name) => (
        <Facet
          key={name}
          name={name}
          legend={t(`search.${name}`)}
          rows={facetRows(counts?.[name], query[name].map(String), name === "resolutions" ? byNumberDown : byCount, mostRows)}
          label={label[name]}
          onToggle={(value) => choose(toggledFacet(query, name, value))}
        />
      ))}
      {n > 0 && (
        <button type="button" className="quiet" onClick={() => choose(unfiltered(query))}>
          {t("search.reset")}
        </button>
      )}
    </div>
  );
  return (
    <aside aria-label={t("search.filters")}>
      {wide ? (
        shown
      ) : (
        // On a phone the results come first; the filters are one tap away.
        <details>
          <summary>{n > 0 ? `${t("search.filters")} (${n})` : t("search.filters")}</summary>
          {shown}
        </details>
      )}
    </aside>
  );
}

// The width at which lists.css puts the filters beside the results.
const wideScreen = window.matchMedia("(min-width: 44.01rem)");

function useWide(): boolean {
  return useSyncExternalStore(
    (onChange) => {
      wideScreen.addEventListener("change", onChange);
      return () => wideScreen.removeEventListener("change", onChange);
    },
    () => wideScreen.matches,
  );
}

function Results({ query, answer, choose }: Choosing & { answer: ReturnType<typeof usePolled<SearchAnswer>> }) {
  const { t, language } = useSpeech();
  const { data, error, stale, refresh } = answer;
  if (data === undefined) return error ? <Failure error={error} retry={refresh} /> : <ListLoading retry={refresh} />;

  const total = data.total === 1 ? t("search.total.one") : t("search.total", { n: count(data.total, language) });
  const narrowed = query.q !== "" || chosen(query) > 0;
  return (
    <>
      {error && <StaleWarning retry={refresh} />}
      <div className="results-head">
        <p className="total" role="status">
          {total}
        </p>
        <label className="sort">
          {t("search.sort")}
          <select name="sort" value={query.sort} onChange={(event) => choose({ ...query, sort: event.target.value, page: 1 })}>
            {sorts.map((sort) => (
              <option key={sort} value={sort}>
                {t(`search.sort.${sort}`)}
              </option>
            ))}
          </select>
        </label>
      </div>
      {data.hits.length === 0 ? (
        <Empty text={narrowed ? t("search.none") : t("search.none.all")} hint={t("search.none.hint")}>
          {narrowed ? (
            <button type="button" onClick={() => choose(chosen(query) > 0 ? unfiltered(query) : { ...query, q: "", page: 1 })}>
              {chosen(query) > 0 ? t("search.reset") : t("search.clear")}
            </button>
          ) : (
            <Link className="button" href={paths.studio}>
              {t("live.to_studio")}
            </Link>
          )}
        </Empty>
      ) : (
        <Cards cards={data.hits.map(cardOfHit)} dimmed={stale} />
      )}
      <Pages page={query.page} total={data.total} pageSize={data.page_size} onPage={(page) => choose({ ...query, page })} />
    </>
  );
}
