// One entry of the log: decoded, and as it is stored.
import type { StoredEntry } from "../api";
import { useSpeech } from "../i18n";

export function EntryView({ entry, below }: { entry: StoredEntry; below: "h1" | "h2" }) {
  const { t } = useSpeech();
  const Heading = below === "h1" ? "h2" : "h3";
  return (
    <div className="entry">
      <dl className="facts">
        <div>
          <dt>{t("log.subject")}</dt>
          <dd>
            <code>{entry.subject}</code>
          </dd>
        </div>
        <div>
          <dt>{t("log.stored")}</dt>
          <dd>
            <time dateTime={entry.stored_at}>{entry.stored_at}</time>
          </dd>
        </div>
      </dl>
      <Heading>{t("log.decoded")}</Heading>
      {entry.entry != null ? (
        <Code label={t("log.decoded")} text={JSON.stringify(entry.entry, null, 2)} />
      ) : (
        <p className="warning">{entry.error}</p>
      )}
      <Heading>{t("log.headers")}</Heading>
      <dl className="facts facts-code">
        {entry.headers.map(({ name, value }) => (
          <div key={`${name} ${value}`}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <Heading>
        {t("log.payload")} <span className="hint">{t("log.bytes", { n: entry.payload_bytes })}</span>
      </Heading>
      <Code label={t("log.payload")} text={hexDump(entry.payload_hex)} />
    </div>
  );
}

export function Code({ label, text }: { label: string; text: string }) {
  return (
    <pre className="code-block" tabIndex={0} role="region" aria-label={label}>
      {text}
    </pre>
  );
}

const bytesOfLine = 16;

/** Hexadecimal digits as lines of 16 bytes with their text beside them. */
export function hexDump(hex: string): string {
  const bytes = hex.match(/../g) ?? [];
  const dump: string[] = [];
  for (let at = 0; at < bytes.length; at += bytesOfLine) {
    const line = bytes.slice(at, at + bytesOfLine);
    const text = line.map((byte) => {
      const code = parseInt(byte, 16);
      return code > 31 && code < 127 ? String.fromCharCode(code) : "·";
    });
    dump.push(`${at.toString(16).padStart(4, "0")}  ${line.join(" ").padEnd(bytesOfLine * 3 - 1)}  ${text.join("")}`);
  }
  return dump.join("\n");
}
