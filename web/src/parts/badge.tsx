import type { BroadcastState } from "../api";
import { useSpeech } from "../i18n";

export function StateBadge({ state }: { state: BroadcastState }) {
  const { t } = useSpeech();
  return <span className={`badge badge-${state}`}>{t(`state.${state}`)}</span>;
}
