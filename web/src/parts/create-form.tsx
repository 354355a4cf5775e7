import { type FormEvent, useState } from "react";
import { createBroadcast, type Created, limits, type Options } from "../api";
import { parseTags } from "../format";
import { useSpeech } from "../i18n";
import { useAction } from "./action";
import { tagsProblem, TagsField, TitleField } from "./fields";

// The languages offered; the API takes any BCP 47 tag.
const spokenLanguages = ["ko", "en", "ja", "zh", "es", "fr", "de", "pt", "vi", "th", "id"];

interface Draft {
  title: string;
  tags: string;
  category: string;
  language: string;
  visibility: NonNullable<Options["visibility"]>;
  latency: NonNullable<Options["latency_mode"]>;
}

const blank: Draft = { title: "", tags: "", category: "", language: "", visibility: "public", latency: "low" };

interface Props {
  token: string;
  onCreated: (created: Created) => void;
}

export function CreateForm({ token, onCreated }: Props) {
  const { t, language } = useSpeech();
  const [draft, setDraft] = useState(blank);
  const { busy, problem, setProblem, run } = useAction();
  const change = (part: Partial<Draft>) => setDraft((before) => ({ ...before, ...part }));
  const names = new Intl.DisplayNames(language, { type: "language" });

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const title = draft.title.trim();
    const tags = parseTags(draft.tags);
    const wrong = title === "" ? t("studio.title.missing") : tagsProblem(tags, t);
    if (wrong) return setProblem(wrong);
    const options: Options = { visibility: draft.visibility, latency_mode: draft.latency };
    if (draft.category.trim()) options.category = draft.category.trim();
    if (draft.language) options.language = draft.language;
    const done = await run(async () => onCreated(await createBroadcast(token, { title, tags, options })));
    if (done) setDraft(blank);
  };

  return (
    <form className="card" onSubmit={(event) => void submit(event)} noValidate>
      <h2>{t("studio.create")}</h2>
      <TitleField id="new-title" value={draft.title} onChange={(title) => change({ title })} />
      <TagsField id="new-tags" value={draft.tags} onChange={(tags) => change({ tags })} />
      <details>
        <summary>{t("studio.options")}</summary>
        <div className="options">
          <div className="field">
            <label htmlFor="new-category">{t("studio.category")}</label>
            <input
              id="new-category"
              type="text"
              autoComplete="off"
              dir="auto"
              maxLength={limits.category}
              value={draft.category}
              onChange={(event) => change({ category: event.target.value })}
            />
          </div>
          <div className="field">
            <label htmlFor="new-language">{t("studio.language")}</label>
            <select
              id="new-language"
              value={draft.language}
              onChange={(event) => change({ language: event.target.value })}
            >
              <option value="">{t("studio.language.none")}</option>
              {spokenLanguages.map((tag) => (
                <option key={tag} value={tag}>
                  {names.of(tag) ?? tag}
                </option>
              ))}
            </select>
          </div>
          <div className="field">
            <label htmlFor="new-visibility">{t("studio.visibility")}</label>
            <select
              id="new-visibility"
              value={draft.visibility}
              onChange={(event) => change({ visibility: event.target.value as Draft["visibility"] })}
            >
              <option value="public">{t("studio.visibility.public")}</option>
              <option value="private">{t("studio.visibility.private")}</option>
            </select>
          </div>
          <div className="field">
            <label htmlFor="new-latency">{t("studio.latency")}</label>
            <select
              id="new-latency"
              value={draft.latency}
              onChange={(event) => change({ latency: event.target.value as Draft["latency"] })}
            >
              <option value="low">{t("studio.latency.low")}</option>
              <option value="normal">{t("studio.latency.normal")}</option>
            </select>
          </div>
        </div>
      </details>
      {problem && (
        <p className="form-error" role="alert">
          {problem}
        </p>
      )}
      <button type="submit" className="primary" disabled={busy}>
        {busy ? t("studio.saving") : t("studio.create.do")}
      </button>
    </form>
  );
}
