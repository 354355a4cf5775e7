// Everything on air with one tag.
import { search } from "../api";
import { useSpeech } from "../i18n";
import { cardOfHit, Cards } from "../parts/cards";
import { Pages } from "../parts/pages";
import { Empty, Failure, ListLoading, StaleWarning, usePageTitle } from "../parts/states";
import { usePolled } from "../poll";
import { Link, navigate, paths, useLocation } from "../router";
import { plain, readSearch, writeSearch } from "../search-state";

const refreshMs = 2000;

export function TagPage({ tag }: { tag: string }) {
  const { t } = useSpeech();
  const { page } = readSearch(useLocation().search);
  const heading = t("tag.heading", { tag });
  usePageTitle(heading);
  const query = { ...plain, tags: [tag], page };
  const { data, error, stale, refresh } = usePolled(writeSearch(query), (signal) => search(query, signal), refreshMs);

  return (
    <div className="page">
      <div className="page-head">
        <h1 dir="auto">{heading}</h1>
        <Link className="button" href={paths.search + writeSearch({ ...plain, tags: [tag] })}>
          {t("tag.narrow")}
        </Link>
      </div>
      {data === undefined ? (
        error ? <Failure error={error} retry={refresh} /> : <ListLoading retry={refresh} />
      ) : (
        <>
          {error && <StaleWarning retry={refresh} />}
          {data.hits.length === 0 ? (
            <Empty text={t("tag.none")}>
              <Link className="button" href={paths.live}>
                {t("watch.back")}
              </Link>
            </Empty>
          ) : (
            <Cards cards={data.hits.map(cardOfHit)} dimmed={stale} />
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
