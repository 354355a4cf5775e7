// One of the owner's broadcasts in the studio: its state, and an editor that
// sends only what changed.
import { type FormEvent, useState } from "react";
import { type Broadcast, deleteBroadcast, revokeKey, rotateKey, setTags, setTitle } from "../api";
import { parseTags } from "../format";
import { useSpeech } from "../i18n";
import type { IssuedKey } from "../pages/studio";
import { Link, paths } from "../router";
import { type Action, useAction } from "./action";
import { StateBadge } from "./badge";
import { Confirm } from "./confirm";
import { tagsProblem, TagsField, TitleField } from "./fields";
import { TagLinks } from "./rows";

interface Props {
  token: string;
  broadcast: Broadcast;
  onChanged: () => void;
  onKey: (issued: IssuedKey) => void;
}

export function OwnBroadcast({ token, broadcast, onChanged, onKey }: Props) {
  const { t } = useSpeech();
  const [open, setOpen] = useState(false);
  const action = useAction();
  const { id, title, tags, status, publish_key: key } = broadcast;

  const rotate = () =>
    action.run(async () => {
      const answer = await rotateKey(token, id);
      onKey({ id, title, key: answer.publish_key, ingest: answer.ingest });
      onChanged();
    });
  const revoke = () => action.run(() => revokeKey(token, id).then(onChanged));
  const remove = () => action.run(() => deleteBroadcast(token, id).then(onChanged));

  return (
    <li className="card own-item" data-broadcast-id={id}>
      <div className="own-head">
        <StateBadge state={status.state} />
        {key?.state === "revoked" && <span className="badge">{t("studio.key_revoked")}</span>}
        <h3 dir="auto">{title}</h3>
        <code className="own-id">{id}</code>
        <TagLinks tags={tags} />
      </div>
      <div className="actions">
        <Link className="button" href={paths.watch(id)}>
          {t("studio.watch")}
        </Link>
        <button type="button" aria-expanded={open} onClick={() => setOpen(!open)}>
          {open ? t("studio.close") : t("studio.edit")}
        </button>
      </div>
      {open && (
        <>
          <Editor token={token} broadcast={broadcast} onChanged={onChanged} action={action} />
          <div className="actions">
            <Confirm
              label={t("studio.rotate")}
              question={t("studio.rotate.confirm")}
              go={t("studio.rotate.do")}
              onGo={rotate}
            />
            {key?.state !== "revoked" && (
              <Confirm
                label={t("studio.revoke")}
                question={t("studio.revoke.confirm")}
                go={t("studio.revoke.do")}
                onGo={revoke}
              />
            )}
            <Confirm
              label={t("studio.delete")}
              question={t("studio.delete.confirm")}
              go={t("studio.delete.do")}
              onGo={remove}
            />
          </div>
        </>
      )}
    </li>
  );
}

interface EditorProps {
  token: string;
  broadcast: Broadcast;
  onChanged: () => void;
  action: Action;
}

function Editor({ token, broadcast: { id, title, tags }, onChanged, action }: EditorProps) {
  const { t } = useSpeech();
  // Taken when the editor opens: a refresh of the list must not undo typing.
  const [draftTitle, setDraftTitle] = useState(title);
  const [draftTags, setDraftTags] = useState(tags.join(", "));
  const [outcome, setOutcome] = useState("");
  const { busy, problem, setProblem, run } = action;

  const save = async (event: FormEvent) => {
    event.preventDefault();
    setOutcome("");
    const newTitle = draftTitle.trim();
    const newTags = parseTags(draftTags);
    const wrong = newTitle === "" ? t("studio.title.missing") : tagsProblem(newTags, t);
    if (wrong) return setProblem(wrong);
    const titleChanged = newTitle !== title;
    const tagsChanged = newTags.join("\n") !== tags.join("\n");
    if (!titleChanged && !tagsChanged) {
      setProblem(undefined);
      return setOutcome(t("studio.unchanged"));
    }
    const done = await run(async () => {
      if (titleChanged) await setTitle(token, id, newTitle);
      if (tagsChanged) await setTags(token, id, newTags);
    });
    if (done) setOutcome(t("studio.saved"));
    onChanged();
  };

  return (
    <form className="editor" onSubmit={(event) => void save(event)} noValidate>
      <TitleField id={`title-${id}`} value={draftTitle} onChange={setDraftTitle} />
      <TagsField id={`tags-${id}`} value={draftTags} onChange={setDraftTags} />
      {problem && (
        <p className="form-error" role="alert">
          {problem}
        </p>
      )}
      <div className="actions">
        <button type="submit" className="primary" disabled={busy}>
          {busy ? t("studio.saving") : t("studio.save")}
        </button>
        <span role="status">{outcome}</span>
      </div>
    </form>
  );
}
