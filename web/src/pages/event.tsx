// One entry of the log by its place, with its neighbours one step away.
import { entry } from "../api";
import { useSpeech } from "../i18n";
import { EntryView } from "../parts/entry-view";
import { LogTabs } from "../parts/log-tabs";
import { useRefusal } from "../parts/members";
import { Empty, Failure, Loading, usePageTitle } from "../parts/states";
import { usePolled } from "../poll";
import { Link, paths } from "../router";
import "../styles/log.css";

// An entry never changes; it can only leave.
const refreshMs = 600_000;

export function EventPage({ stream, seq }: { stream: string; seq: number }) {
  const { t } = useSpeech();
  const place = `${stream} ${seq}`;
  usePageTitle(place);
  const { data, error, refresh } = usePolled(place, (signal) => entry(stream, seq, signal), refreshMs);
  useRefusal(error);

  return (
    <div className="page">
      <LogTabs />
      <div className="page-head">
        <h1>{place}</h1>
        <nav className="actions" aria-label={t("log.neighbours")}>
          {seq > 1 && (
            <Link className="button" href={paths.event(stream, seq - 1)}>
              {t("log.before")}
            </Link>
          )}
          <Link className="button" href={paths.event(stream, seq + 1)}>
            {t("log.after")}
          </Link>
        </nav>
      </div>
      {error?.status === 404 ? (
        <Empty text={t("log.missing")} hint={t("log.missing.hint")}>
          <Link className="button" href={paths.events}>
            {t("log.tail")}
          </Link>
        </Empty>
      ) : data === undefined ? (
        error ? <Failure error={error} retry={refresh} /> : <Loading retry={refresh} />
      ) : (
        <EntryView entry={data} below="h1" />
      )}
    </div>
  );
}
