/** Steps of progress that a rate is taken over. */
const STEPS = 20;

/** How fast a batch goes on, from the moments at which its count of ended requests was seen to grow. */
export class Pace {
  private readonly steps: { at: number; ended: number }[] = [];

  /** `since`: Unix milliseconds of the batch's creation. */
  constructor(private readonly since: number) {}

  /**
   * Requests per second, over the last steps that were seen; before the second one, since the creation.
   * A batch that stands still gets slower with time. Null before anything has ended.
   */
  rate(ended: number, now: number): number | null {
    const last = this.steps.at(-1);
    if (last === undefined || ended !== last.ended) {
      // Outcomes taken back after a loss begin a new count.
      if (last !== undefined && ended < last.ended) this.steps.length = 0;
      this.steps.push({ at: now, ended });
      if (this.steps.length > STEPS) this.steps.shift();
    }
    if (ended === 0) return null;
    const [first] = this.steps;
    const grown = first === undefined ? 0 : ended - first.ended;
    if (first !== undefined && grown > 0) return grown / Math.max(0.001, (now - first.at) / 1000);
    return ended / Math.max(1, (now - this.since) / 1000);
  }
}
