// Everything on air with one tag.
import { search } from "../api";
import { useSpeech } from "../i18n";
import { Pages } from "../parts/pages";
import { rowOfHit, Rows } from "../parts/rows";
import { Empty, Failure, Loading, StaleWarning, usePageTitle } from "../parts/states";
import { usePolled } from "../poll";
import { Link, navigate, paths, useLocation } from "../router";
import { readSearch, writeSearch } from "../search-state";

const refreshMs = 3000;

export function TagPage({ tag }: { tag: string }) {
  const { t } = useSpeech();
  const { page } = readSearch(useLocation().search);
  const heading = t("tag.heading", { tag });
  usePageTitle(heading);
  const query = { q: "", tags: [tag], resolutions: [], page };
  const { data, error, stale, refresh } = usePolled(writeSearch(query), (signal) => search(query, signal), refreshMs);

  return (
    <div className="page">
      <h1 dir="auto">{heading}</h1>
      {data === undefined ? (
        error ? <Failure error={error} retry={refresh} /> : <Loading />
      ) : (
        <>
          {error && <StaleWarning />}
          {data.hits.length === 0 ? (
            <Empty text={t("tag.none")}>
              <Link className="button" href={paths.live}>
                {t("watch.back")}
              </Link>
            </Empty>
          ) : (
            <Rows rows={data.hits.map(rowOfHit)} dimmed={stale} />
          )}
          <Pages
            page={page}
            total={data.total}
            pageSize={data.page_size}
            onPage={(next) => navigate(paths.tag(tag) + (next > 1 ? `?page=${next}` : ""))}
          />
        </>
      )}
    </div>
  );
}
