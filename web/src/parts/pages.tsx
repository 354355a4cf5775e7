import { useSpeech } from "../i18n";

interface Props {
  page: number;
  total: number;
  pageSize: number;
  onPage: (page: number) => void;
}

/** Moves between result pages; nothing where there is only one. */
export function Pages({ page, total, pageSize, onPage }: Props) {
  const { t } = useSpeech();
  const pages = Math.max(1, Math.ceil(total / Math.max(1, pageSize)));
  if (pages === 1 && page === 1) return null;
  const go = (next: number) => {
    onPage(next);
    window.scrollTo(0, 0);
  };
  return (
    <nav className="pages" aria-label={t("search.pages")}>
      <button type="button" disabled={page <= 1} onClick={() => go(Math.min(page - 1, pages))}>
        {t("search.previous")}
      </button>
      <span>{t("search.page", { page, pages })}</span>
      <button type="button" disabled={page >= pages} onClick={() => go(page + 1)}>
        {t("search.next")}
      </button>
    </nav>
  );
}
