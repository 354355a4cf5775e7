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
  ) {}

  /** Shows the picture so many seconds after the beginning of the playlist, which is the player's too. */
  async show(into: number): Promise<void> {
    this.wanted = into;
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
      hls.startLoad(this.wanted);
    });
    // Meanwhile another moment may be wanted.
    hls.once(Engine.Events.FRAG_BUFFERED, () => this.seek());
    hls.loadSource(this.url);
    hls.attachMedia(this.video);
  }

  destroy(): void {
    this.destroyed = true;
    this.hls?.destroy();
  }

  private seek(): void {
    const { hls, wanted } = this;
    const details = hls?.latestLevelDetails;
    if (details && hls?.hasEnoughToStart && wanted !== undefined) this.video.currentTime = details.fragmentStart + wanted;
  }
}
