// The event explorer: the log as it comes and as it was. The URL holds what is
// asked for.
import { useDeferredValue, useEffect, useMemo, useRef, useState } from "react";
import { entry } from "../api";
import { count } from "../format";
import { useSpeech } from "../i18n";
import { allKinds, eventsUrl, type LogQuery, oneStream, readLog, writeLog } from "../log-state";
import { EntryView } from "../parts/entry-view";
import { LogTabs } from "../parts/log-tabs";
import { StartForm } from "../parts/start-form";
import { Failure, Loading, usePageTitle } from "../parts/states";
import { SubjectTree } from "../parts/subject-tree";
import { VirtualList } from "../parts/virtual-list";
import { usePolled } from "../poll";
import { Link, navigate, paths, useLocation } from "../router";
import { has, type LogRow, mostRows, Tail, type TailView, wordsOf } from "../tail";
import "../styles/forms.css";
import "../styles/log.css";

const rowHeight = 28;
const nothing: TailView = { rows: [], waiting: 0, dropped: 0, state: "connecting" };

export function EventsPage() {
  const { t } = useSpeech();
  usePageTitle(t("log.heading"));
  const query = readLog(useLocation().search);
  const go = (next: LogQuery, how: { replace?: boolean } = {}) => navigate(paths.events + writeLog(next), how);

  return (
    <div className="page page-wide">
      <LogTabs />
      <h1 className="visually-hidden">{t("log.heading")}</h1>
      <div className="explorer">
        <aside aria-label={t("log.subjects")}>
          <details open={window.matchMedia("(min-width: 44.01rem)").matches}>
            <summary>{t("log.subjects")}</summary>
            <SubjectTree
              query={query}
              choose={(part) => {
                const next = { ...query, ...part };
                // A sequence is one of its stream.
                const moved = query.from.startsWith("seq:") && oneStream(next) !== oneStream(query);
                go(moved ? { ...next, from: "now" } : next);
              }}
            />
          </details>
        </aside>
        <section className="explorer-main" aria-label={t("log.tail")}>
          <StartForm query={query} go={go} />
          <div className="filter-line">
            <Filter label={t("log.broadcast")} name="broadcast" value={query.broadcast} onChange={(broadcast) => go({ ...query, broadcast }, { replace: true })} />
            <Filter label={t("log.text")} name="text" value={query.text} onChange={(text) => go({ ...query, text }, { replace: true })} />
          </div>
          <Live query={query} />
        </section>
      </div>
    </div>
  );
}

interface FilterProps {
  label: string;
  name: string;
  value: string;
  onChange: (value: string) => void;
}

function Filter({ label, name, value, onChange }: FilterProps) {
  return (
    <label className="filter">
      {label}
      <input type="search" name={name} autoComplete="off" spellCheck={false} value={value} onChange={(event) => onChange(event.target.value.trimStart())} />
    </label>
  );
}

function Live({ query }: { query: LogQuery }) {
  const { t, language } = useSpeech();
  const url = eventsUrl(query);
  const [view, setView] = useState(nothing);
  const [paused, setPaused] = useState(false);
  const [atEnd, setAtEnd] = useState(true);
  const [picked, setPicked] = useState<LogRow>();
  const tail = useRef<Tail>(null);
  const pauser = useRef<HTMLButtonElement>(null);

  useEffect(() => {
    setView(nothing);
    setPaused(false);
    setAtEnd(true);
    if (url === undefined) return;
    const mine = new Tail(url, allKinds, setView);
    tail.current = mine;
    return () => {
      mine.close();
      tail.current = null;
    };
  }, [url]);

  const words = useDeferredValue(query.text);
  const rows = useMemo(() => {
    const wanted = wordsOf(words);
    return wanted.length === 0 ? view.rows : view.rows.filter((row) => has(row, wanted));
  }, [view.rows, words]);

  const toggle = () => {
    if (paused) {
      tail.current?.resume();
      setAtEnd(true);
    } else tail.current?.pause();
    setPaused(!paused);
  };

  const close = () => {
    // Back to where the entry was picked, if that is in sight.
    const row = document.querySelector<HTMLElement>('.row-pick[aria-pressed="true"]');
    setPicked(undefined);
    (row ?? pauser.current)?.focus();
  };

  const state = url === undefined ? t("log.no_broadcast") : t(`log.state.${view.state}`);
  return (
    <>
      <div className="tail-line">
        <button type="button" ref={pauser} onClick={toggle} aria-pressed={paused}>
          {paused ? t("log.resume") : t("log.pause")}
        </button>
        <p role="status" data-tail={paused ? "paused" : view.state}>
          {paused ? t("log.skipped", { n: count(view.waiting, language) }) : state}
        </p>
        <p className="hint" data-rows={rows.length}>
          {query.text
            ? t("log.rows.found", { n: count(rows.length, language), of: count(view.rows.length, language) })
            : t("log.rows", { n: count(rows.length, language) })}
          {view.dropped > 0 && ` ${t("log.dropped", { n: count(view.dropped, language), most: count(mostRows, language) })}`}
        </p>
      </div>
      <VirtualList
        rows={rows}
        rowHeight={rowHeight}
        label={t("log.entries")}
        columns={[t("log.time"), t("log.entry"), t("log.kind"), t("log.broadcast"), t("log.says")]}
        keyOf={(row) => row.key}
        follow={atEnd && !paused}
        onAtEnd={setAtEnd}
        render={(row) => <Row row={row} picked={picked?.key === row.key} onPick={() => setPicked(row)} />}
      />
      {rows.length === 0 && <p className="hint">{t("log.waiting")}</p>}
      {picked && <Picked key={picked.key} row={picked} onClose={close} />}
    </>
  );
}

function Row({ row, picked, onPick }: { row: LogRow; picked: boolean; onPick: () => void }) {
  return (
    <>
      <span role="cell" className="row-time">
        {row.time.slice(5, 23).replace("T", " ")}
      </span>
      <span role="cell" className="row-place">
        <button type="button" className="row-pick" aria-pressed={picked} onClick={onPick}>
          {row.stream} {row.seq}
        </button>
      </span>
      <span role="cell" className="row-kind">
        {row.kind}
      </span>
      <span role="cell" className="row-broadcast">
        {row.broadcast}
      </span>
      <span role="cell" className="row-says" dir="auto">
        {row.summary}
      </span>
    </>
  );
}

function Picked({ row, onClose }: { row: LogRow; onClose: () => void }) {
  const { t } = useSpeech();
  const heading = useRef<HTMLHeadingElement>(null);
  const { data, error, refresh } = usePolled(row.key, (signal) => entry(row.stream, row.seq, signal), 600_000);
  useEffect(() => {
    heading.current?.focus();
  }, []);
  return (
    <section className="card picked" aria-labelledby="picked">
      <div className="page-head">
        <h2 id="picked" ref={heading} tabIndex={-1}>
          {row.key}
        </h2>
        <div className="actions">
          <Link className="button" href={paths.event(row.stream, row.seq)}>
            {t("log.own_page")}
          </Link>
          <button type="button" onClick={onClose}>
            {t("log.close_entry")}
          </button>
        </div>
      </div>
      {data ? <EntryView entry={data} below="h2" /> : error ? <Failure error={error} retry={refresh} /> : <Loading retry={refresh} />}
    </section>
  );
}
