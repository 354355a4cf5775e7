// Plays one HLS URL in one video element and reports what a page needs to show
// about it. Knows hls.js and the browser's autoplay rules, nothing of the API.
//
// hls.js comes first wherever it runs: some browsers claim to play HLS natively
// and then do so without parts and without a seekable range.
import type Hls from "hls.js";
import { resolution } from "./format";

export type Phase = "starting" | "playing" | "trouble" | "finished" | "unsupported";

export interface Quality {
  /** Index of the level in hls.js. */
  level: number;
  label: string;
}

export interface PlayerView {
  phase: Phase;
  qualities: Quality[];
  /** Level picked by the viewer; -1 = automatic. */
  picked: number;
  /** What is on the screen, e.g. "720p"; empty until known. */
  current: string;
  /** "muted": the browser allowed no sound; "blocked": it allowed nothing. */
  autoplay: "ok" | "muted" | "blocked";
  behindLive: boolean;
}

/** Handles for tests and for looking into a stream from the browser's console. */
export interface DebugHandle {
  hls: Hls | null;
  video: HTMLVideoElement;
}

declare global {
  interface Window {
    __castlog?: DebugHandle | undefined;
  }
}

const auto = -1;
// A live stream is retried for as long as it is live, at most this far apart.
const longestRetryMs = 8000;
// A second media error this soon after the first is not cured by recovering.
const mediaErrorWindowMs = 10_000;
// Further behind than a few segments means that the viewer paused or sought.
const behindLiveSeconds = 10;
// Shorter waits for data are ordinary buffering, which the browser shows itself.
const stallMs = 4000;

export class Player {
  private view: PlayerView = {
    phase: "starting",
    qualities: [],
    picked: auto,
    current: "",
    autoplay: "ok",
    behindLive: false,
  };
  private hls: Hls | null = null;
  private Hls: typeof Hls | undefined;
  private destroyed = false;
  private over = false;
  private failures = 0;
  private lastMediaError = -Infinity;
  private retryTimer: number | undefined;
  private stallTimer: number | undefined;
  private readonly listening = new AbortController();

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly url: string,
    private readonly onChange: (view: PlayerView) => void,
  ) {
    const on = (name: keyof HTMLMediaElementEventMap, listener: () => void) =>
      video.addEventListener(name, listener, { signal: this.listening.signal });
    on("playing", () => {
      window.clearTimeout(this.stallTimer);
      this.update({ phase: "playing" });
    });
    on("waiting", () => {
      window.clearTimeout(this.stallTimer);
      this.stallTimer = window.setTimeout(() => this.stalled(), stallMs);
    });
    on("pause", () => window.clearTimeout(this.stallTimer));
    on("ended", () => this.update({ phase: "finished" }));
    on("timeupdate", () => this.update({ behindLive: this.isBehindLive() }));
    on("volumechange", () => {
      if (!video.muted) this.update({ autoplay: "ok" });
    });
    on("play", () => {
      if (this.view.autoplay === "blocked") this.update({ autoplay: video.muted ? "muted" : "ok" });
    });
  }

  async start(): Promise<void> {
    try {
      this.Hls = (await import("hls.js")).default;
    } catch {
      // The chunk did not arrive: a network matter like any other.
      return this.retry();
    }
    if (this.destroyed) return;
    if (this.Hls.isSupported()) this.attach(this.Hls);
    else if (this.video.canPlayType("application/vnd.apple.mpegurl") !== "") this.attachNative();
    else this.update({ phase: "unsupported" });
  }

  /** The broadcast is over: what is buffered plays out, nothing is retried. */
  finish(): void {
    this.over = true;
    if (this.view.phase === "trouble") this.stopRetrying();
  }

  pick(level: number): void {
    if (!this.hls) return;
    this.hls.nextLevel = level;
    this.update({ picked: level });
  }

  toLive(): void {
    const edge = this.liveEdge();
    if (edge !== undefined) this.video.currentTime = edge;
    void this.play();
  }

  /** Called from a click, which is what the browser waits for. */
  unmute(): void {
    this.video.muted = false;
    void this.play();
  }

  destroy(): void {
    this.destroyed = true;
    this.listening.abort();
    window.clearTimeout(this.retryTimer);
    window.clearTimeout(this.stallTimer);
    this.detach();
    this.video.removeAttribute("src");
    this.video.load();
    if (window.__castlog?.video === this.video) window.__castlog = undefined;
  }

  private attach(Engine: typeof Hls): void {
    const hls = new Engine({
      lowLatencyMode: true,
      // Memory bound: a minute to seek back in without the network.
      backBufferLength: 60,
      maxBufferLength: 20,
      // The picture box is often smaller than the source.
      capLevelToPlayerSize: false,
    });
    this.hls = hls;
    window.__castlog = { hls, video: this.video };

    hls.on(Engine.Events.MANIFEST_PARSED, () => {
      this.readQualities();
      // After a rebuild the viewer's choice still holds.
      if (this.view.picked !== auto) hls.nextLevel = this.view.picked;
      void this.play();
    });
    hls.on(Engine.Events.LEVELS_UPDATED, () => this.readQualities());
    hls.on(Engine.Events.LEVEL_SWITCHED, (_, { level }) => this.update({ current: this.label(level) }));
    hls.on(Engine.Events.FRAG_BUFFERED, () => {
      this.failures = 0;
    });
    hls.on(Engine.Events.ERROR, (_, { fatal, type }) => {
      if (!fatal) return;
      const now = performance.now();
      if (type === Engine.ErrorTypes.MEDIA_ERROR && now - this.lastMediaError > mediaErrorWindowMs) {
        this.lastMediaError = now;
        hls.recoverMediaError();
        return;
      }
      this.retry();
    });
    hls.loadSource(this.url);
    hls.attachMedia(this.video);
  }

  private attachNative(): void {
    window.__castlog = { hls: null, video: this.video };
    this.video.addEventListener("error", () => this.retry(), { once: true, signal: this.listening.signal });
    this.video.src = this.url;
    void this.play();
  }

  private detach(): void {
    this.hls?.destroy();
    this.hls = null;
  }

  private retry(): void {
    if (this.destroyed) return;
    if (this.over) return this.stopRetrying();
    this.detach();
    // A stream that has never played yet is merely not ready.
    if (this.view.phase !== "starting") this.update({ phase: "trouble" });
    window.clearTimeout(this.retryTimer);
    this.retryTimer = window.setTimeout(() => void this.start(), Math.min(1000 * 2 ** this.failures, longestRetryMs));
    this.failures += 1;
  }

  /** The picture stands still; the loader may be retrying without a word. */
  private stalled(): void {
    if (this.view.phase === "playing") this.update({ phase: this.over ? "finished" : "trouble" });
  }

  private stopRetrying(): void {
    window.clearTimeout(this.retryTimer);
    this.update({ phase: "finished" });
  }

  private async play(): Promise<void> {
    try {
      await this.video.play();
    } catch (cause) {
      if (!(cause instanceof DOMException) || cause.name !== "NotAllowedError" || this.destroyed) return;
      if (this.video.muted) {
        this.update({ autoplay: "blocked" });
        return;
      }
      this.video.muted = true;
      this.update({ autoplay: "muted" });
      await this.play();
    }
  }

  private readQualities(): void {
    const levels = this.hls?.levels ?? [];
    const seen = new Set<string>();
    const qualities = levels
      .map(({ height, bitrate }, level) => ({ level, height, bitrate, label: this.label(level) }))
      .sort((a, b) => b.height - a.height || b.bitrate - a.bitrate)
      // Levels that read the same (redundant or other codecs): the best of them.
      .filter(({ label }) => !seen.has(label) && seen.add(label))
      .map(({ level, label }) => ({ level, label }));
    const known = this.view.picked === auto || this.view.picked < levels.length;
    this.update({ qualities, picked: known ? this.view.picked : auto });
  }

  private label(level: number): string {
    const found = this.hls?.levels[level];
    if (!found) return "";
    if (!found.height) return found.name ?? `${Math.round(found.bitrate / 1000)} kbit/s`;
    return resolution(found.height, found.frameRate ?? 0);
  }

  private liveEdge(): number | undefined {
    const { seekable } = this.video;
    return this.hls?.liveSyncPosition ?? (seekable.length > 0 ? seekable.end(seekable.length - 1) : undefined);
  }

  private isBehindLive(): boolean {
    const edge = this.liveEdge();
    return !this.over && edge !== undefined && edge - this.video.currentTime > behindLiveSeconds;
  }

  private update(change: Partial<PlayerView>): void {
    if (this.destroyed) return;
    const next = { ...this.view, ...change };
    const same = (Object.keys(change) as (keyof PlayerView)[]).every((key) => this.view[key] === next[key]);
    if (same) return;
    this.view = next;
    this.onChange(next);
  }
}
