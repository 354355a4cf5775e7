// Plays one HLS URL in one video element and reports what a page needs to show
// about it. Knows hls.js and the browser's autoplay rules, nothing of the API.
//
// hls.js leaves the variant without a picture out where others have one. So it is
// loaded here as a stream of its own: when the viewer picks it, or while the line is
// too slow for any picture.
//
// hls.js comes first wherever it runs: some browsers claim to play HLS natively
// and then do so without parts and without a seekable range. Its light build
// lacks audio of its own playlist, which ours have.
import type Hls from "hls.js";
import type { Fragment } from "hls.js";
import { serverNow } from "./clock";
import { resolution } from "./format";
import { Insistence } from "./insistence";
import { Line, type Load } from "./line";
import { arrived, faster, paced } from "./pace";
import { Standstill } from "./standstill";
import { withTokenOf } from "./token";
import { keep, kept } from "./storage";

export type Phase = "starting" | "playing" | "trouble" | "finished" | "unsupported";

export interface Quality {
  /** Index of the level in hls.js, or `audioOnly`. */
  level: number;
  /** Empty for `audioOnly`, which has a name in each language. */
  label: string;
  height: number;
}

/** The quality that is the sound without any picture. */
export const audioOnly = -2;

export interface PlayerView {
  phase: Phase;
  qualities: Quality[];
  /** Level picked by the viewer; -1 = automatic. */
  picked: number;
  /** Only the sound plays: the viewer wants that, or the line gives no more. */
  listening: "no" | "picked" | "slow";
  /** What is on the screen, e.g. "720p"; empty until known. */
  current: string;
  /** "muted": the browser allowed no sound; "blocked": it allowed nothing. */
  autoplay: "ok" | "muted" | "blocked";
  paused: boolean;
  muted: boolean;
  /** 0 to 1. */
  volume: number;
  /** What can be sought, and where it stands, in media seconds. */
  from: number;
  to: number;
  at: number;
  /** Seconds between what happens and what is on the screen; undefined until known. */
  latency: number | undefined;
  /** Milliseconds since 1970 of media second 0, by the broadcaster's clock. */
  origin: number | undefined;
  behindLive: boolean;
  /** It is no broadcast but the recording of one. */
  recorded: boolean;
}

// Asked for as soon as this module is here, while the page still asks what to play.
let engine = import("hls.js");
engine.catch(() => undefined);

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
// Further behind where a live player plays means that the viewer paused or sought.
const behindLiveSeconds = 4;
// Shorter waits for data are ordinary buffering.
const stallMs = 4000;
// Sound and picture do not end at the same moment.
const missingSeconds = 1;
const lookMs = 500;
// What is loaded ahead of where it plays.
const aheadSeconds = 20;
const qualityKey = "castlog.quality";
const listened = "audio";
const volumeKey = "castlog.volume";

// Not the sound beside it, and no media initialization section.
const isPicture = ({ type, sn }: Fragment) => String(type) === "main" && sn !== "initSegment";

export class Player {
  private view: PlayerView = {
    phase: "starting",
    qualities: [],
    picked: auto,
    listening: "no",
    current: "",
    autoplay: "ok",
    paused: true,
    muted: false,
    volume: 1,
    from: 0,
    to: 0,
    at: 0,
    latency: undefined,
    origin: undefined,
    behindLive: false,
    recorded: false,
  };
  private hls: Hls | null = null;
  private Hls: typeof Hls | undefined;
  private destroyed = false;
  private over = false;
  private failures = 0;
  private lastMediaError = -Infinity;
  /** Whether the viewer lets it play; nothing else may start it again once they paused. */
  private lets = true;
  /** Whether the viewer has gone away from the live edge, or has paused, and stays there. */
  private stays = false;
  /** Height of the quality that is wanted, `listened`, or "auto". */
  private wanted = kept(qualityKey) ?? "auto";
  /** Playlist of the sound alone, where the stream has one beside its pictures. */
  private soundUrl: string | undefined;
  /** Bits per second of the lightest picture. */
  private lightest = Infinity;
  private interrupted = false;
  /** The browser holds no more media than it has. */
  private full = false;
  /** Where a recording goes on, in media seconds. */
  private resumeAt = 0;
  private readonly line = new Line();
  /** What was asked for last of what plays, and how long each piece of it plays. */
  private asked: { fragment: Fragment; plays: number } | undefined;
  private readonly still = new Standstill();
  private readonly insistence = new Insistence();
  private retryTimer: number | undefined;
  private stallTimer: number | undefined;
  private readonly listening = new AbortController();

  constructor(
    private readonly video: HTMLVideoElement,
    private address: string,
    private readonly onChange: (view: PlayerView) => void,
    recorded = false,
  ) {
    this.view.recorded = recorded;
    const on = (name: keyof HTMLMediaElementEventMap, listener: () => void) =>
      video.addEventListener(name, listener, { signal: this.listening.signal });
    const volume = Number(kept(volumeKey) ?? "1");
    if (volume >= 0 && volume <= 1) video.volume = volume;
    on("playing", () => {
      window.clearTimeout(this.stallTimer);
      this.update({ phase: "playing" });
    });
    on("waiting", () => {
      window.clearTimeout(this.stallTimer);
      this.stallTimer = window.setTimeout(() => this.stalled(), stallMs);
    });
    on("pause", () => {
      window.clearTimeout(this.stallTimer);
      // By a key for media, say, which is not ours; at the end it pauses by itself.
      if (!video.ended) [this.lets, this.stays] = [false, true];
      this.update({ paused: true });
    });
    on("ended", () => this.update({ phase: "finished" }));
    for (const name of ["timeupdate", "seeking", "progress"] as const) on(name, () => this.look());
    on("timeupdate", () => this.keepPace());
    on("volumechange", () => {
      this.update({ muted: video.muted, volume: video.volume });
      if (!video.muted) this.update({ autoplay: "ok" });
    });
    on("play", () => {
      this.update({ paused: false });
      if (this.view.autoplay === "blocked") this.update({ autoplay: video.muted ? "muted" : "ok" });
    });
    // While paused nothing is timed, and the live edge moves on all the same.
    const ticking = window.setInterval(() => {
      this.look();
      this.mindTheLine();
      this.mindStandstill();
      this.mindThePick();
      this.keepAhead();
    }, lookMs);
    this.listening.signal.addEventListener("abort", () => window.clearInterval(ticking));
  }

  get url(): string {
    return this.address;
  }

  /** The same stream by a newer token: what is asked for from now on has it. */
  renew(url: string): void {
    this.address = url;
  }

  async start(): Promise<void> {
    try {
      this.Hls = (await engine).default;
    } catch {
      // The chunk did not arrive: a network matter like any other.
      engine = import("hls.js");
      engine.catch(() => undefined);
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

  /** The encoder is gone, or is back: while it is gone no line brings anything. */
  interrupt(gone: boolean): void {
    this.interrupted = gone;
  }

  /** The viewer's choice, which holds on other pages and days too. */
  pick(level: number): void {
    if (!this.hls) return;
    const quality = this.view.qualities.find((found) => found.level === level);
    this.wanted = level === audioOnly ? listened : String(quality?.height || "auto");
    keep(qualityKey, this.wanted);
    if (level === audioOnly) return this.turn("picked");
    if (this.view.listening !== "no") return this.turn("no");
    this.hls.nextLevel = level;
    this.update({ picked: level });
  }

  toggle(): void {
    this.lets = this.video.paused;
    if (this.lets) void this.play();
    else this.video.pause();
  }

  toggleMuted(): void {
    this.video.muted = !this.video.muted;
  }

  setVolume(volume: number): void {
    this.video.volume = Math.min(1, Math.max(0, volume));
    this.video.muted = this.video.volume === 0;
    keep(volumeKey, String(this.video.volume));
  }

  seek(to: number): void {
    const { from, to: end } = this.view;
    this.stays = true;
    this.video.currentTime = Math.min(Math.max(to, from), Math.max(from, end));
    this.look();
  }

  seekBy(seconds: number): void {
    this.seek(this.video.currentTime + seconds);
  }

  toLive(): void {
    const edge = this.view.recorded ? undefined : this.liveEdge();
    if (edge !== undefined) this.video.currentTime = edge;
    [this.lets, this.stays] = [true, false];
    void this.play();
  }

  /** Called from a click, which is what the browser waits for. */
  unmute(): void {
    this.video.muted = false;
    this.lets = true;
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
      // The first segment is shown instead of being measured and thrown away.
      testBandwidth: false,
      // Media is asked for while the element is still being made ready.
      startFragPrefetch: true,
      // Memory bound: a minute to seek back in without the network.
      backBufferLength: 60,
      maxBufferLength: aheadSeconds,
      // Seconds that a stall leaves it further behind from then on: two parts and more.
      liveSyncOnStallIncrease: 0.5,
      // The picture box is often smaller than the source.
      capLevelToPlayerSize: false,
      // Titles come from the API. As cues they would need an empty track by a data: URL,
      // which the page's policy rightly does not load.
      enableDateRangeMetadataCues: false,
      // Playlists that it holds name the token that they were loaded with.
      xhrSetup: (request, url) => request.open("GET", withTokenOf(this.address, url), true),
      // What is live begins at its end.
      startPosition: this.view.recorded ? this.resumeAt : -1,
    });
    this.hls = hls;
    window.__castlog = { hls, video: this.video };

    hls.on(Engine.Events.MANIFEST_PARSED, () => {
      this.goOn();
      if (this.view.listening !== "no") return;
      // The choice of another day, and of before a rebuild.
      const height = Number(this.wanted);
      const level = hls.levels.findIndex((found) => height > 0 && found.height === height);
      if (level >= 0) hls.startLevel = hls.nextLevel = level;
      this.update({ picked: level });
      this.readQualities();
    });
    // Comes after the above, with what hls.js has left out.
    hls.on(Engine.Events.MANIFEST_LOADED, (_, { levels }) => {
      if (this.view.listening !== "no") return;
      const pictures = levels.filter(({ videoCodec, height }) => videoCodec || height);
      const sound = levels.find(({ audioCodec, videoCodec, height }) => audioCodec && !videoCodec && !height);
      this.soundUrl = pictures.length > 0 ? sound?.url : undefined;
      this.lightest = Math.min(...pictures.map(({ bitrate }) => bitrate));
      this.readQualities();
      // Not from within what hls.js is doing.
      if (this.soundUrl && this.wanted === listened) window.setTimeout(() => this.turn("picked"));
    });
    hls.on(Engine.Events.LEVELS_UPDATED, () => this.readQualities());
    hls.on(Engine.Events.LEVEL_SWITCHED, (_, { level }) => this.update({ current: this.label(level) }));
    hls.on(Engine.Events.FRAG_LOADING, (_, { frag: fragment, part }) => {
      if (isPicture(fragment)) this.asked = { fragment, plays: (part ?? fragment).duration };
    });
    hls.on(Engine.Events.FRAG_LOADED, (_, { frag: fragment, part }) => {
      const { stats, duration: plays } = part ?? fragment;
      if (isPicture(fragment)) this.line.loaded({ took: (stats.loading.end - stats.loading.start) / 1000, plays });
    });
    hls.on(Engine.Events.FRAG_BUFFERED, (_, { frag: fragment }) => {
      this.failures = 0;
      if (isPicture(fragment) && fragment.level === this.view.picked) this.insistence.plays();
      // Back after a failure, and still paused.
      if (!this.lets) this.update({ phase: "playing" });
    });
    this.full = false;
    hls.on(Engine.Events.ERROR, (_, { fatal, type, details }) => {
      if (details === Engine.ErrorDetails.BUFFER_FULL_ERROR) this.full = true;
      if (!fatal) return;
      const now = performance.now();
      if (type === Engine.ErrorTypes.MEDIA_ERROR && now - this.lastMediaError > mediaErrorWindowMs) {
        this.lastMediaError = now;
        hls.recoverMediaError();
        // Detaching the element has paused it, without an event.
        this.goOn();
        return;
      }
      this.retry();
    });
    this.loadSource();
    hls.attachMedia(this.video);
  }

  private loadSource(): void {
    const slow = this.view.listening === "slow";
    if (this.hls) {
      // Parts of sound are too small to measure a line by, and each costs it a request.
      this.hls.lowLatencyMode = !slow;
      this.hls.loadSource((this.view.listening !== "no" && this.soundUrl) || this.url);
    }
  }

  /** Goes over to the sound alone, or back to the picture, at the same moment of the stream. */
  private turn(listening: PlayerView["listening"]): void {
    const { hls } = this;
    if (!hls || this.destroyed || listening === this.view.listening) return;
    const same = listening !== "no" && this.view.listening !== "no";
    this.line.forget();
    this.update({ listening, picked: listening === "picked" ? audioOnly : auto });
    if (same) {
      hls.lowLatencyMode = listening !== "slow";
      return;
    }
    const details = hls.latestLevelDetails;
    // Both playlists begin with the same segment. It starts there and does not seek there later:
    // which track comes first is open, and hls.js holds sound back that has no picture beside it.
    // Where the last turn has not begun to play, its moment still holds.
    if (details && hls.hasEnoughToStart) {
      const back = this.view.behindLive || this.view.recorded;
      hls.config.startPosition = back ? Math.max(0, this.video.currentTime - details.fragmentStart) : -1;
      this.stays ||= back;
    }
    this.loadSource();
  }

  /** While the viewer leaves the quality to us: is there enough for a picture? */
  private mindTheLine(): void {
    const { hls, view, video } = this;
    if (!hls || !this.soundUrl || this.over || this.interrupted || video.paused || view.picked !== auto) {
      this.line.forget();
      return;
    }
    const sight = {
      slow: view.listening === "slow",
      waits: video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA,
      underWay: this.underWay(),
      // Before the page knows that the encoder is gone: there is no more media than is here.
      more: (hls.latestLevelDetails?.edge ?? 0) > this.bufferedTo() + missingSeconds,
      brings: hls.bandwidthEstimate,
      lightest: this.lightest,
    };
    const turn = this.line.look(sight, lookMs);
    if (turn === "picture") this.turn("no");
    if (turn === "sound") this.turn("slow");
  }

  /** The piece of media that is asked for and has not come. */
  private underWay(): Load | undefined {
    const { fragment, plays } = this.asked ?? {};
    // 0 = it has not been sent. A loader that hls.js has done with has no figures, whatever its
    // type says, and a newer playlist can name it once more.
    const from = fragment?.loader?.stats?.loading.start ?? 0;
    return plays && from > 0 ? { took: (performance.now() - from) / 1000, plays } : undefined;
  }

  /** Where hls.js waits for nothing, and says no word, it is told where to go on. */
  private mindStandstill(): void {
    const { hls, video, view } = this;
    const ended = this.over || video.ended;
    const should = hls !== null && view.phase !== "starting" && !video.paused && !ended && !this.interrupted;
    const edge = view.recorded ? undefined : (hls?.liveSyncPosition ?? undefined);
    const remedy = this.still.look({ at: video.currentTime, loadedTo: this.bufferedTo(), edge, should }, lookMs);
    if (remedy === "edge" && edge !== undefined) video.currentTime = edge;
    if (remedy === "anew") this.retry();
  }

  private mindThePick(): void {
    const { hls, view } = this;
    const left = hls !== null && view.picked >= 0 && hls.autoLevelEnabled;
    if (this.insistence.look(left, lookMs) && hls) hls.loadLevel = view.picked;
  }

  /**
   * hls.js halves what it may load ahead each time that it comes upon a fragment which is still
   * being taken in, and never takes that back. After an hour of an encoder that drops it would
   * be two seconds, and Chromium wants more than that, once playing has broken off often, to
   * play on. Where the browser is full it is right.
   */
  private keepAhead(): void {
    const config = this.hls?.config;
    if (config && !this.full && config.maxMaxBufferLength < aheadSeconds) config.maxMaxBufferLength = aheadSeconds;
  }

  /** A live stream is played a little faster while it is further behind than need be. */
  private keepPace(): void {
    const { hls, video } = this;
    const details = hls?.latestLevelDetails;
    // Another rate is not from here.
    if (!hls || (video.playbackRate !== 1 && video.playbackRate !== faster)) return;
    const live = details?.live && hls.lowLatencyMode && !this.over && !this.view.recorded;
    const place = {
      behind: hls.latency,
      target: hls.targetLatency ?? Infinity,
      ahead: this.bufferedTo() - video.currentTime,
      part: (live && details.partTarget) || 0,
      stays: this.stays,
    };
    if (place.part > 0 && arrived(place)) this.stays = false;
    const rate = paced(place, video.playbackRate);
    if (video.playbackRate !== rate) video.playbackRate = rate;
  }

  private attachNative(): void {
    window.__castlog = { hls: null, video: this.video };
    this.video.addEventListener("error", () => this.retry(), { once: true, signal: this.listening.signal });
    this.video.src = this.url;
    this.goOn();
  }

  private detach(): void {
    this.hls?.destroy();
    this.hls = null;
    this.asked = undefined;
  }

  private retry(): void {
    if (this.destroyed) return;
    if (this.over) return this.stopRetrying();
    // Nothing is known of it any more when the media is detached.
    if (this.video.currentTime > 0) this.resumeAt = this.video.currentTime;
    this.detach();
    // A stream that has never played yet is merely not ready.
    if (this.view.phase !== "starting") this.update({ phase: "trouble" });
    window.clearTimeout(this.retryTimer);
    this.retryTimer = window.setTimeout(() => void this.start(), Math.min(500 * 2 ** this.failures, longestRetryMs));
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

  /** Plays what is there now, unless the viewer paused. */
  private goOn(): void {
    if (this.lets) void this.play();
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

  /** How far what plays has been loaded without a gap. */
  private bufferedTo(): number {
    const { buffered, currentTime: at } = this.video;
    for (let n = 0; n < buffered.length; n += 1) {
      if (buffered.start(n) <= at && at <= buffered.end(n)) return buffered.end(n);
    }
    return at;
  }

  private readQualities(): void {
    if (this.view.listening !== "no") return;
    const levels = this.hls?.levels ?? [];
    const seen = new Set<string>();
    const qualities = levels
      .map(({ height, bitrate }, level) => ({ level, height, bitrate, label: this.label(level) }))
      .sort((a, b) => b.height - a.height || b.bitrate - a.bitrate)
      // Levels that read the same (redundant or other codecs): the best of them.
      .filter(({ label }) => !seen.has(label) && seen.add(label))
      .map(({ level, height, label }) => ({ level, height, label }));
    if (this.soundUrl) qualities.push({ level: audioOnly, height: 0, label: "" });
    const known = this.view.picked < levels.length;
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

  /** Reads where the picture stands. */
  private look(): void {
    const { seekable, currentTime: at } = this.video;
    const last = seekable.length - 1;
    const [from, to] = last < 0 ? [0, 0] : [seekable.start(0), seekable.end(last)];
    const live = !this.over && !this.view.recorded;
    const edge = this.liveEdge();
    const date = this.hls?.playingDate?.getTime();
    this.update({
      at,
      from,
      to,
      // A tenth of a second is as fine as anyone reads it.
      latency: date === undefined || !live ? undefined : Math.max(0, Math.round((serverNow() - date) / 100) / 10),
      origin: date === undefined ? this.view.origin : Math.round(date - at * 1000),
      behindLive: live && edge !== undefined && edge - at > behindLiveSeconds,
    });
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
