// A new broadcast, and what an encoder needs for it. The publish key lives in
// this page only and is gone with it: it is in no URL and no storage.
import { useState } from "react";
import { createBroadcast } from "../api";
import { useSpeech } from "../i18n";
import { AboutForm, blank } from "../parts/fields";
import { type IssuedKey, KeyPanel } from "../parts/key-panel";
import { usePageTitle } from "../parts/states";
import { Link, navigate, paths } from "../router";
import "../styles/forms.css";
import "../styles/studio.css";

export function StudioNewPage() {
  const { t } = useSpeech();
  usePageTitle(t("studio.create"));
  const [issued, setIssued] = useState<IssuedKey>();

  return (
    <div className="page page-form">
      <p className="crumbs">
        <Link href={paths.studio}>{t("studio.heading")}</Link>
      </p>
      <h1>{t("studio.create")}</h1>
      {issued ? (
        <KeyPanel issued={issued} onDone={() => navigate(paths.studioOf(issued.id))} />
      ) : (
        <AboutForm
          initial={blank}
          submit={t("studio.create.do")}
          onSubmit={async (about) => {
            const { broadcast, publish_key, ingest } = await createBroadcast(about);
            setIssued({ id: broadcast.id, title: broadcast.title, key: publish_key ?? "", ingest });
            return "";
          }}
        />
      )}
    </div>
  );
}
