// The picture at another moment of a stream that has no storyboard there: a second hls.js at the lowest
// quality, which loads nothing before somebody points at the time line.
import type Hls from "hls.js";

export class Preview {
  private hls: Hls | undefined;
  private wanted: number | undefined;
  private destroyed = false;

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly url: string,
    /** Media time of this instance for that of the player. */
    private readonly origin: () => number | undefined,
  ) {}

  async show(at: number): Promise<void> {
    this.wanted = at;
    if (this.hls) return this.seek();
    const { default: Engine } = await import("hls.js");
    if (this.destroyed || this.hls || !Engine.isSupported()) return;
    const hls = new Engine({
      autoStartLoad: false,
      maxBufferLength: 2,
      maxMaxBufferLength: 4,
      backBufferLength: 10,
      enableDateRangeMetadataCues: false,
    });
    this.hls = hls;
    hls.on(Engine.Events.MANIFEST_PARSED, () => {
      const heights = hls.levels.map(({ height }) => height || Infinity);
      hls.autoLevelCapping = hls.startLevel = hls.nextLevel = heights.indexOf(Math.min(...heights));
      hls.startLoad();
    });
    hls.once(Engine.Events.FRAG_BUFFERED, () => this.seek());
    hls.loadSource(this.url);
    hls.attachMedia(this.video);
  }

  destroy(): void {
    this.destroyed = true;
    this.hls?.destroy();
  }

  /** Both players begin where they joined; what they share is the broadcaster's clock. */
  private seek(): void {
    const [theirs, wanted] = [this.origin(), this.wanted];
    const date = this.hls?.playingDate?.getTime();
    if (theirs === undefined || wanted === undefined || date === undefined) return;
    const own = date - this.video.currentTime * 1000;
    this.video.currentTime = Math.max(0, wanted + (theirs - own) / 1000);
  }
}
