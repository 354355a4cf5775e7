// The broadcasts of this server, for those who may change them.
import { ownBroadcasts } from "../api";
import { dateTime } from "../format";
import { useSpeech } from "../i18n";
import { StateBadge } from "../parts/badge";
import { useRefusal } from "../parts/members";
import { Empty, Failure, Loading, StaleWarning, usePageTitle } from "../parts/states";
import { usePolled } from "../poll";
import { Link, paths } from "../router";
import "../styles/forms.css";
import "../styles/studio.css";

const refreshMs = 3000;

export function StudioPage() {
  const { t, language } = useSpeech();
  usePageTitle(t("studio.heading"));
  const { data, error, refresh } = usePolled("own", ownBroadcasts, refreshMs);
  useRefusal(error);

  return (
    <div className="page">
      <div className="page-head">
        <h1>{t("studio.heading")}</h1>
        <Link className="button primary" href={paths.studioNew}>
          {t("studio.create")}
        </Link>
      </div>
      {data === undefined ? (
        error ? <Failure error={error} retry={refresh} /> : <Loading retry={refresh} />
      ) : (
        <>
          {error && <StaleWarning retry={refresh} />}
          {data.length === 0 && (
            <Empty text={t("studio.own.none")}>
              <Link className="button" href={paths.studioNew}>
                {t("studio.create")}
              </Link>
            </Empty>
          )}
          <ul className="own-list">
            {data.map(({ id, title, status, options, publish_key, created_at }) => (
              <li key={id} className="own-item" data-broadcast-id={id}>
                <StateBadge state={status.state} />
                <h2 dir="auto">
                  <Link href={paths.studioOf(id)}>{title}</Link>
                </h2>
                <p className="own-facts">
                  {options.visibility === "private" && <span className="badge">{t("studio.visibility.private")}</span>}
                  {publish_key.state === "revoked" && <span className="badge">{t("studio.key_revoked")}</span>}
                  <span>{dateTime(status.started_at ?? created_at ?? "", language)}</span>
                </p>
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}
