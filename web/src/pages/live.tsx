// What is on air, straight from the live state: this page works while the
// search engine does not.
import { liveBroadcasts } from "../api";
import { useSpeech } from "../i18n";
import { Empty, Failure, Loading, StaleWarning, usePageTitle } from "../parts/states";
import { rowOfBroadcast, Rows } from "../parts/rows";
import { SearchBox } from "../parts/search-box";
import { usePolled } from "../poll";
import { Link, navigate, paths } from "../router";
import { writeSearch } from "../search-state";

const refreshMs = 3000;

export function LivePage() {
  const { t } = useSpeech();
  usePageTitle(t("live.heading"));
  const { data, error, refresh } = usePolled("live", liveBroadcasts, refreshMs);

  const toSearch = (q: string) => {
    if (q.trim() !== "") navigate(paths.search + writeSearch({ q, tags: [], resolutions: [], page: 1 }));
  };

  return (
    <div className="page">
      <h1>{t("live.heading")}</h1>
      <SearchBox value="" onSubmit={toSearch} />
      {data === undefined ? (
        error ? <Failure error={error} retry={refresh} /> : <Loading />
      ) : (
        <>
          {error && <StaleWarning />}
          {data.items.length === 0 ? (
            <Empty text={t("live.none")} hint={t("live.none.hint")}>
              <Link className="button" href={paths.studio}>
                {t("live.to_studio")}
              </Link>
            </Empty>
          ) : (
            <Rows rows={data.items.map(rowOfBroadcast)} />
          )}
        </>
      )}
    </div>
  );
}
