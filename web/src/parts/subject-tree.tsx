// The subjects of the log as a tree with counts: streams, kinds, and the
// broadcasts of a kind.
import { useState } from "react";
import { streams, subjects } from "../api";
import { count } from "../format";
import { useSpeech } from "../i18n";
import type { LogQuery } from "../log-state";
import { usePolled } from "../poll";
import { useRefusal } from "./members";
import { Failure, Loading } from "./states";

const refreshMs = 5000;

interface Props {
  query: LogQuery;
  choose: (part: Pick<LogQuery, "stream" | "kind" | "broadcast">) => void;
}

export function SubjectTree({ query, choose }: Props) {
  const { t, language } = useSpeech();
  const { data, error, refresh } = usePolled("streams", streams, refreshMs);
  useRefusal(error);
  if (data === undefined) return error ? <Failure error={error} retry={refresh} /> : <Loading retry={refresh} />;
  const all = { stream: "", kind: "", broadcast: "" };
  return (
    <ul className="tree">
      <li>
        <Branch
          name={t("log.all")}
          entries={undefined}
          current={!query.stream && !query.kind && !query.broadcast}
          onChoose={() => choose(all)}
        />
      </li>
      {data.map((stream) => (
        <li key={stream.name} data-stream={stream.name}>
          <Branch
            name={stream.name}
            entries={count(stream.entries, language)}
            current={query.stream === stream.name && !query.kind}
            onChoose={() => choose({ ...all, stream: stream.name })}
          />
          <ul>
            {stream.kinds.map(({ kind, entries }) => (
              <li key={kind} data-kind={kind}>
                <Kind kind={kind} entries={entries} query={query} choose={(broadcast) => choose({ stream: stream.name, kind, broadcast })} />
              </li>
            ))}
          </ul>
        </li>
      ))}
    </ul>
  );
}

interface KindProps {
  kind: string;
  entries: number;
  query: LogQuery;
  choose: (broadcast: string) => void;
}

function Kind({ kind, entries, query, choose }: KindProps) {
  const { t, language } = useSpeech();
  const [open, setOpen] = useState(false);
  const toggle = t(open ? "log.close" : "log.open", { kind });
  return (
    <>
      <div className="branch">
        <button type="button" className="twig" aria-expanded={open} aria-label={toggle} disabled={entries === 0} onClick={() => setOpen(!open)}>
          {open ? "−" : "+"}
        </button>
        <Branch
          name={kind}
          entries={count(entries, language)}
          current={query.kind === kind && !query.broadcast}
          onChoose={() => choose("")}
        />
      </div>
      {open && <Subjects kind={kind} query={query} choose={choose} />}
    </>
  );
}

function Subjects({ kind, query, choose }: Omit<KindProps, "entries">) {
  const { t, language } = useSpeech();
  const { data, error, refresh } = usePolled(kind, (signal) => subjects(kind, signal), refreshMs);
  if (data === undefined) return error ? <Failure error={error} retry={refresh} /> : <Loading retry={refresh} />;
  return (
    <ul>
      {data.subjects.map(({ subject, entries }) => {
        const id = subject.slice(subject.lastIndexOf(".") + 1);
        return (
          <li key={subject}>
            <Branch
              name={id}
              entries={count(entries, language)}
              current={query.kind === kind && query.broadcast === id}
              onChoose={() => choose(id)}
            />
          </li>
        );
      })}
      {data.left_out > 0 && <li className="hint">{t("log.letters.more", { n: data.left_out })}</li>}
    </ul>
  );
}

interface BranchProps {
  name: string;
  entries: string | undefined;
  current: boolean;
  onChoose: () => void;
}

function Branch({ name, entries, current, onChoose }: BranchProps) {
  return (
    <button type="button" className="leaf" aria-pressed={current} onClick={onChoose}>
      <span className="leaf-name">{name}</span>
      {entries !== undefined && <span className="leaf-count">{entries}</span>}
    </button>
  );
}
