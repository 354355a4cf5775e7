import { useSpeech } from "../i18n";
import { usePageTitle } from "../parts/states";
import { Link, paths } from "../router";

export function NotFoundPage({ path }: { path: string }) {
  const { t } = useSpeech();
  usePageTitle(t("missing.heading"));
  return (
    <div className="page">
      <section className="notice">
        <h1>{t("missing.heading")}</h1>
        <p>{t("missing.hint", { path })}</p>
        <Link className="button" href={paths.live}>
          {t("watch.back")}
        </Link>
      </section>
    </div>
  );
}
