import { limits } from "../api";
import type { Translate } from "../i18n";
import { useSpeech } from "../i18n";

/** What is wrong with a tag set, in words; undefined: nothing. */
export function tagsProblem(tags: string[], t: Translate): string | undefined {
  const long = tags.find((tag) => [...tag].length > limits.tag);
  if (long) return t("studio.tags.too_long", { tag: long, length: limits.tag });
  if (tags.length > limits.tags) return t("studio.tags.too_many", { most: limits.tags, n: tags.length });
  return undefined;
}

interface Props {
  id: string;
  value: string;
  onChange: (text: string) => void;
}

export function TagsField({ id, value, onChange }: Props) {
  const { t } = useSpeech();
  return (
    <div className="field">
      <label htmlFor={id}>{t("studio.tags")}</label>
      <input
        id={id}
        name="tags"
        type="text"
        autoComplete="off"
        dir="auto"
        value={value}
        aria-describedby={`${id}-hint`}
        onChange={(event) => onChange(event.target.value)}
      />
      <p className="hint" id={`${id}-hint`}>
        {t("studio.tags.hint", { most: limits.tags, length: limits.tag })}
      </p>
    </div>
  );
}

export function TitleField({ id, value, onChange }: Props) {
  const { t } = useSpeech();
  return (
    <div className="field">
      <label htmlFor={id}>{t("studio.title")}</label>
      <input
        id={id}
        name="title"
        type="text"
        autoComplete="off"
        dir="auto"
        maxLength={limits.title}
        value={value}
        onChange={(event) => onChange(event.target.value)}
      />
    </div>
  );
}
