// Where a broadcast is played from. That of a private one has a token in it, which
// is asked for here and renewed before it ends.
import { useEffect, useState } from "react";
import { type Broadcast, playbackToken } from "./api";
import { serverNow } from "./clock";
import { keepRenewed } from "./token";

/** The recording of a session, beside the live playlist of its broadcast. */
export function recordingUrl(playbackUrl: string, id: string, session: string): string {
  const live = `/live/${id}/index.m3u8`;
  return `${playbackUrl.slice(0, -live.length)}/recordings/${id}/${session}/index.m3u8`;
}

/** Undefined while there is no token. */
export function usePlaybackUrl({ id, options, playback_url }: Broadcast): string | undefined {
  const isPrivate = options.visibility === "private";
  const [held, setHeld] = useState<{ id: string; url: string }>();

  useEffect(() => {
    if (!isPrivate) return;
    const controller = new AbortController();
    const ask = async () => {
      const { playback_url: url, expires_at } = await playbackToken(id, controller.signal);
      return { url, ends: Date.parse(expires_at) };
    };
    void keepRenewed(ask, (url) => setHeld({ id, url }), serverNow, controller.signal);
    return () => controller.abort();
  }, [id, isPrivate]);

  if (!isPrivate) return playback_url;
  return held?.id === id ? held.url : undefined;
}
