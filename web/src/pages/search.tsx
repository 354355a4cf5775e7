// Search over what is live: as you type, with facets, kept fresh so that ended
// broadcasts leave by themselves. The URL holds the whole state.
import { useRef, useSyncExternalStore } from "react";
import { search, type SearchAnswer, type SearchQuery } from "../api";
import { count } from "../format";
import { useSpeech } from "../i18n";
import { Facet } from "../parts/facet";
import { Pages } from "../parts/pages";
import { rowOfHit, Rows } from "../parts/rows";
import { SearchBox } from "../parts/search-box";
import { Empty, Failure, Loading, StaleWarning, usePageTitle } from "../parts/states";
import { usePolled } from "../poll";
import { navigate, paths, useLocation } from "../router";
import { byCount, byNumberDown, facetRows, readSearch, toggled, writeSearch } from "../search-state";

const refreshMs = 3000;
// More tags than this are a wall, not a choice; the rest are found by typing.
const mostTags = 24;
const mostResolutions = 12;

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
    go({ ...query, q, page: 1 }, { replace: typing.current });
    typing.current = true;
  };
  const submit = (q: string) => {
    go({ ...query, q, page: 1 }, { replace: typing.current });
    typing.current = false;
    answer.refresh();
  };
  const choose = (next: SearchQuery) => {
    typing.current = false;
    go(next);
  };

  const filtered = query.tags.length + query.resolutions.length > 0;
  return (
    <div className="page page-search">
      <h1 className="visually-hidden">{t("search.heading")}</h1>
      <SearchBox value={query.q} onType={type} onSubmit={submit} autoFocus />
      <div className="search-columns">
        <Filters query={query} facets={answer.data?.facets} filtered={filtered} choose={choose} />
        <section className="results" aria-label={t("search.heading")}>
          <Results query={query} answer={answer} filtered={filtered} choose={choose} />
        </section>
      </div>
    </div>
  );
}

interface Choosing {
  query: SearchQuery;
  filtered: boolean;
  choose: (next: SearchQuery) => void;
}

function Filters({ query, facets, filtered, choose }: Choosing & { facets: SearchAnswer["facets"] | undefined }) {
  const { t } = useSpeech();
  const heights = query.resolutions.map(String);
  const wide = useWide();
  const chosen = query.tags.length + query.resolutions.length;
  const facetsShown = (
    <div className="filters">
      <Facet
        name="tags"
        legend={t("search.tags")}
        rows={facetRows(facets?.tags, query.tags, byCount, mostTags)}
        label={(tag) => `#${tag}`}
        onToggle={(tag) => choose({ ...query, tags: toggled(query.tags, tag), page: 1 })}
      />
      <Facet
        name="resolutions"
        legend={t("search.resolutions")}
        rows={facetRows(facets?.resolutions, heights, byNumberDown, mostResolutions)}
        label={(height) => `${height}p`}
        onToggle={(height) => choose({ ...query, resolutions: toggled(query.resolutions, Number(height)), page: 1 })}
      />
      {filtered && (
        <button type="button" className="quiet" onClick={() => choose({ ...query, tags: [], resolutions: [], page: 1 })}>
          {t("search.reset")}
        </button>
      )}
    </div>
  );
  return (
    <aside aria-label={t("search.filters")}>
      {wide ? (
        facetsShown
      ) : (
        // On a phone the results come first; the filters are one tap away.
        <details>
          <summary>{chosen > 0 ? `${t("search.filters")} (${chosen})` : t("search.filters")}</summary>
          {facetsShown}
        </details>
      )}
    </aside>
  );
}

// The width at which app.css puts the filters beside the results.
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

function Results({
  query,
  answer,
  filtered,
  choose,
}: Choosing & { answer: ReturnType<typeof usePolled<SearchAnswer>> }) {
  const { t, language } = useSpeech();
  const { data, error, stale, refresh } = answer;
  if (data === undefined) return error ? <Failure error={error} retry={refresh} /> : <Loading />;

  const total = data.total === 1 ? t("search.total.one") : t("search.total", { n: count(data.total, language) });
  const nothing = query.q !== "" || filtered ? t("search.none") : t("search.none.all");
  return (
    <>
      {error && <StaleWarning />}
      <p className="total" role="status">
        {total}
      </p>
      {data.hits.length === 0 ? (
        <Empty text={nothing} hint={t("search.none.hint")} />
      ) : (
        <Rows rows={data.hits.map(rowOfHit)} dimmed={stale} />
      )}
      <Pages
        page={query.page}
        total={data.total}
        pageSize={data.page_size}
        onPage={(page) => choose({ ...query, page })}
      />
    </>
  );
}
