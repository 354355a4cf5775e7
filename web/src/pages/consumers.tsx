// How far the durable consumers of the log are.
import { consumers } from "../api";
import { count, elapsedSeconds } from "../format";
import { useSpeech } from "../i18n";
import { LogTabs } from "../parts/log-tabs";
import { useRefusal } from "../parts/members";
import { Empty, Failure, Loading, StaleWarning, usePageTitle } from "../parts/states";
import { serverNow } from "../clock";
import { useNow, usePolled } from "../poll";
import { Link, paths } from "../router";
import "../styles/log.css";

const refreshMs = 2000;

export function ConsumersPage() {
  const { t, language } = useSpeech();
  usePageTitle(t("log.consumers"));
  useNow();
  const { data, error, refresh } = usePolled("consumers", consumers, refreshMs);
  useRefusal(error);
  const age = (time: string | null | undefined) => (time ? elapsedSeconds((serverNow() - Date.parse(time)) / 1000) : "–");

  return (
    <div className="page">
      <LogTabs />
      <h1>{t("log.consumers")}</h1>
      <p className="hint">{t("log.consumers.hint")}</p>
      {data === undefined ? (
        error ? <Failure error={error} retry={refresh} /> : <Loading retry={refresh} />
      ) : data.length === 0 ? (
        <Empty text={t("log.consumers.none")}>
          <button type="button" onClick={refresh}>
            {t("state.retry")}
          </button>
        </Empty>
      ) : (
        <>
          {error && <StaleWarning retry={refresh} />}
          <div className="scrolled" tabIndex={0} role="region" aria-label={t("log.consumers")}>
            <table data-state="results">
              <thead>
                <tr>
                  <th scope="col">{t("log.consumer")}</th>
                  <th scope="col">{t("log.stream")}</th>
                  <th scope="col">{t("log.lag")}</th>
                  <th scope="col">{t("log.ack_pending")}</th>
                  <th scope="col">{t("log.redelivered")}</th>
                  <th scope="col">{t("log.oldest")}</th>
                  <th scope="col">{t("log.acked")}</th>
                  <th scope="col">{t("log.letters")}</th>
                </tr>
              </thead>
              <tbody>
                {data.map((consumer) => (
                  <tr key={`${consumer.name} ${consumer.stream}`} data-consumer={`${consumer.name}/${consumer.stream}`}>
                    <th scope="row">{consumer.name}</th>
                    <td>{consumer.stream}</td>
                    <td className={consumer.pending > 0 ? "number waiting" : "number"}>{count(consumer.pending, language)}</td>
                    <td className="number">{count(consumer.ack_pending, language)}</td>
                    <td className="number">{count(consumer.redelivered, language)}</td>
                    <td className="number">{age(consumer.oldest_unacked)}</td>
                    <td className="number">{count(consumer.acked, language)}</td>
                    <td className="number">
                      {consumer.dead_letters > 0 ? (
                        <Link href={paths.deadLetters}>{count(consumer.dead_letters, language)}</Link>
                      ) : (
                        "0"
                      )}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </>
      )}
    </div>
  );
}
