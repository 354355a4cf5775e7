// What is on air, straight from the live state: this page works while the
// search engine does not.
import { type Broadcast, liveBroadcasts } from "../api";
import { useSpeech } from "../i18n";
import { cardOfBroadcast, Cards, TagLinks } from "../parts/cards";
import { SearchBox } from "../parts/search-box";
import { Empty, Failure, ListLoading, StaleWarning, usePageTitle } from "../parts/states";
import { usePolled } from "../poll";
import { Link, navigate, paths } from "../router";
import { plain, writeSearch } from "../search-state";

const refreshMs = 2000;
const mostTags = 12;

export function LivePage() {
  const { t } = useSpeech();
  usePageTitle(t("live.heading"));
  const { data, error, refresh } = usePolled("live", liveBroadcasts, refreshMs);

  const toSearch = (q: string) => {
    if (q.trim() !== "") navigate(paths.search + writeSearch({ ...plain, q }));
  };

  return (
    <div className="page">
      <h1>{t("live.heading")}</h1>
      <SearchBox value="" onSubmit={toSearch} />
      {data === undefined ? (
        error ? <Failure error={error} retry={refresh} /> : <ListLoading retry={refresh} />
      ) : (
        <>
          {error && <StaleWarning retry={refresh} />}
          {data.length === 0 ? (
            <Empty text={t("live.none")} hint={t("live.none.hint")}>
              <Link className="button" href={paths.studio}>
                {t("live.to_studio")}
              </Link>
            </Empty>
          ) : (
            <>
              <TagLinks tags={commonTags(data)} label={t("live.tags")} />
              <Cards cards={data.map(cardOfBroadcast)} />
            </>
          )}
        </>
      )}
    </div>
  );
}

/** The tags that most of what is on air has. */
function commonTags(broadcasts: Broadcast[]): string[] {
  const counts = new Map<string, number>();
  for (const tag of broadcasts.flatMap((broadcast) => broadcast.tags)) counts.set(tag, (counts.get(tag) ?? 0) + 1);
  return [...counts]
    .sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]))
    .slice(0, mostTags)
    .map(([tag]) => tag);
}
