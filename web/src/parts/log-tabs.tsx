// The pages about the log, beside each other.
import { useSpeech } from "../i18n";
import type { Key } from "../messages";
import { Link, paths, useLocation } from "../router";

const tabs: { href: string; label: Key }[] = [
  { href: paths.events, label: "log.tail" },
  { href: paths.consumers, label: "log.consumers" },
  { href: paths.deadLetters, label: "log.letters" },
];

export function LogTabs() {
  const { t } = useSpeech();
  const { path } = useLocation();
  return (
    <nav className="tabs" aria-label={t("log.heading")}>
      {tabs.map(({ href, label }) => (
        <Link key={href} href={href} aria-current={path === href ? "page" : undefined}>
          {t(label)}
        </Link>
      ))}
    </nav>
  );
}
