// The form of what is said of a broadcast: the same for a new one and for one
// that is there.
import { type FormEvent, type ReactNode, useState } from "react";
import { type Broadcast, limits, type Options } from "../api";
import { languageName, parseTags } from "../format";
import type { Translate } from "../i18n";
import { useSpeech } from "../i18n";
import { useAction } from "./action";

// The languages offered; the API takes any BCP 47 tag.
const spokenLanguages = ["ko", "en", "ja", "zh", "es", "fr", "de", "pt", "vi", "th", "id"];

export interface About {
  title: string;
  tags: string[];
  options: Pick<Options, "category" | "language" | "visibility" | "latency_mode">;
}

export const blank: About = {
  title: "",
  tags: [],
  options: { category: "", language: "", visibility: "public", latency_mode: "low" },
};

export function aboutOf({ title, tags, options }: Broadcast): About {
  const { category, language, visibility, latency_mode } = options;
  return { title, tags, options: { category, language, visibility, latency_mode } };
}

interface Changes {
  title?: string;
  tags?: string[];
  /** Only those that were changed. */
  options?: Partial<About["options"]>;
}

/** What somebody changed in the form. */
export function changesOf(before: About, after: About): Changes {
  const changes: Changes = {};
  if (after.title !== before.title) changes.title = after.title;
  if (after.tags.join() !== before.tags.join()) changes.tags = after.tags;
  const names = Object.keys(after.options) as (keyof About["options"])[];
  const changed = names.filter((name) => after.options[name] !== before.options[name]);
  if (changed.length > 0) changes.options = Object.fromEntries(changed.map((name) => [name, after.options[name]]));
  return changes;
}

/** What is wrong with a tag set, in words; undefined: nothing. */
function tagsProblem(tags: string[], t: Translate): string | undefined {
  const long = tags.find((tag) => [...tag].length > limits.tag);
  if (long) return t("studio.tags.too_long", { tag: long, length: limits.tag });
  if (tags.length > limits.tags) return t("studio.tags.too_many", { most: limits.tags, n: tags.length });
  return undefined;
}

interface Props {
  initial: About;
  submit: string;
  /** Says what became of it; empty: nothing to say. */
  onSubmit: (about: About) => Promise<string>;
}

export function AboutForm({ initial, submit, onSubmit }: Props) {
  const { t, language } = useSpeech();
  // Taken when the form opens: a refresh of the broadcast must not undo typing.
  const [draft, setDraft] = useState({ ...initial.options, title: initial.title, tags: initial.tags.join(", ") });
  const [outcome, setOutcome] = useState("");
  const { busy, problem, setProblem, run } = useAction();
  const change = (part: Partial<typeof draft>) => setDraft((before) => ({ ...before, ...part }));
  const languages = [...new Set([draft.language, ...spokenLanguages])].filter((tag) => tag !== "");

  const send = async (event: FormEvent) => {
    event.preventDefault();
    setOutcome("");
    const title = draft.title.trim();
    const tags = parseTags(draft.tags);
    const wrong = title === "" ? t("studio.title.missing") : tagsProblem(tags, t);
    if (wrong) return setProblem(wrong);
    const { visibility, latency_mode } = draft;
    const options = { category: draft.category.trim(), language: draft.language, visibility, latency_mode };
    await run(async () => setOutcome(await onSubmit({ title, tags, options })));
  };

  return (
    <form className="card" onSubmit={(event) => void send(event)} noValidate>
      <Field id="title" label={t("studio.title")}>
        <input
          id="title"
          name="title"
          type="text"
          autoComplete="off"
          dir="auto"
          maxLength={limits.title}
          value={draft.title}
          onChange={(event) => change({ title: event.target.value })}
        />
      </Field>
      <Field id="tags" label={t("studio.tags")}>
        <input
          id="tags"
          name="tags"
          type="text"
          autoComplete="off"
          dir="auto"
          value={draft.tags}
          aria-describedby="tags-hint"
          onChange={(event) => change({ tags: event.target.value })}
        />
        <p className="hint" id="tags-hint">
          {t("studio.tags.hint", { most: limits.tags, length: limits.tag })}
        </p>
      </Field>
      <div className="options">
        <Field id="category" label={t("studio.category")}>
          <input
            id="category"
            name="category"
            type="text"
            autoComplete="off"
            dir="auto"
            maxLength={limits.category}
            value={draft.category}
            onChange={(event) => change({ category: event.target.value })}
          />
        </Field>
        <Field id="language" label={t("studio.language")}>
          <select
            id="language"
            name="language"
            value={draft.language}
            onChange={(event) => change({ language: event.target.value })}
          >
            <option value="">{t("studio.language.none")}</option>
            {languages.map((tag) => (
              <option key={tag} value={tag}>
                {languageName(tag, language)}
              </option>
            ))}
          </select>
        </Field>
        <Field id="visibility" label={t("studio.visibility")}>
          <select
            id="visibility"
            name="visibility"
            value={draft.visibility}
            onChange={(event) => change({ visibility: event.target.value as Options["visibility"] })}
          >
            <option value="public">{t("studio.visibility.public")}</option>
            <option value="private">{t("studio.visibility.private")}</option>
          </select>
        </Field>
        <Field id="latency" label={t("studio.latency")}>
          <select
            id="latency"
            name="latency"
            value={draft.latency_mode}
            onChange={(event) => change({ latency_mode: event.target.value as Options["latency_mode"] })}
          >
            <option value="low">{t("studio.latency.low")}</option>
            <option value="normal">{t("studio.latency.normal")}</option>
          </select>
        </Field>
      </div>
      {problem && (
        <p className="form-error" role="alert">
          {problem}
        </p>
      )}
      <div className="actions">
        <button type="submit" className="primary" disabled={busy}>
          {busy ? t("studio.saving") : submit}
        </button>
        <span role="status">{outcome}</span>
      </div>
    </form>
  );
}

function Field({ id, label, children }: { id: string; label: string; children: ReactNode }) {
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children}
    </div>
  );
}
