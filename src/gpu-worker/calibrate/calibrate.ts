/** Short prefills on rank processes of this machine, from which the planner predicts long ones. */
import type { Calibration, Subject } from '../../plan/calibration.js';
import type { Way } from '../../plan/cost.js';
import type { Measurement } from '../../plan/fit.js';
import { defaultSizes, type Fractions } from '../../plan/sizes.js';
import type { ModelShape } from '../../plan/work.js';
import { randomTokens } from '../bench/measure.js';
import { ConfirmRanks } from '../check/confirm-ranks.js';
import type { LayoutOptions, PrefillOptions } from '../engine/engine.js';

export interface CalibrateOptions extends Omit<Subject, 'model' | 'machine'> {
  modelDir: string;
  shape: ModelShape;
  /** The model's defaults of l_a and l_p. */
  fractions: Fractions;
  /** Tokens that the model holds. */
  longest: number;
  /** Of this machine. */
  processors: number;
  signal?: AbortSignal;
  onStep?: (done: string) => void;
}

export type Calibrated = Pick<
  Calibration,
  'engine' | 'comm' | 'seconds_by' | 'places' | 'measured_at' | 'measurements'
>;

/** The prefill of one rank is doubled until it takes so long: below, products hide attention. */
const enoughSeconds = 1;
const shortest = 512;
/** Each prefill is repeated so often, and the least counts; fewer times where all of a cohort's together take long. */
const mostRuns = 5;
const leastRuns = 2;
const budgetSeconds = 25;
const queryTokens = 16;
const timeoutMs = 1_800_000;

/**
 * Prefills of two lengths: by one rank, and by two in every way whose speed is its own.
 * @throws LonghaulError CHECK_RANK when a rank process dies or fails; no process is left behind.
 */
export async function calibrate(options: CalibrateOptions): Promise<Calibrated> {
  const { backend, processors, threads, onStep } = options;
  const alone = await withRanks(1, options, async (cohort) => {
    onStep?.(`one rank of ${cohort.backend}`);
    const way = plain('full', 1);
    let tokens = Math.min(shortest, options.longest);
    while ((await prefill(cohort, options, way, tokens)) < enoughSeconds && 2 * tokens <= options.longest) {
      tokens *= 2;
    }
    const cells = [tokens, Math.ceil(tokens / 4)].map((length) => ({ way, tokens: length }));
    return { tokens, engine: cohort.backend, measurements: await measureAll(cohort, options, cells) };
  });
  const pair = await withRanks(2, options, async (cohort) => {
    const shared = backend === 'cuda' && cohort.comm !== 'nccl';
    onStep?.(
      shared
        ? 'two ranks are not measured: without NCCL between two GPUs of this machine they would share one'
        : `two ranks over ${cohort.comm}`,
    );
    const cells = shared
      ? []
      : [alone.tokens, Math.ceil(alone.tokens / 4)].flatMap((tokens) =>
          waysOfTwo(options, tokens).map((way) => ({ way, tokens })),
        );
    return { comm: cohort.comm, measurements: await measureAll(cohort, options, cells) };
  });
  return {
    engine: alone.engine,
    comm: pair.comm,
    seconds_by: backend === 'cpu' ? 'processor' : 'clock',
    places: backend === 'cpu' ? Math.max(1, processors / threads) : null,
    measured_at: new Date().toISOString(),
    measurements: [...alone.measurements, ...pair.measurements],
  };
}

async function withRanks<T>(
  ranks: number,
  { modelDir, threads, backend, precision, signal }: CalibrateOptions,
  use: (cohort: ConfirmRanks) => Promise<T>,
): Promise<T> {
  const cohort = await ConfirmRanks.start({
    ranks,
    modelDir,
    threads,
    backend,
    precision,
    timeoutMs,
    ...(signal && { signal }),
  });
  try {
    return await use(cohort);
  } finally {
    await cohort.dispose();
  }
}

const plain = (method: Way['method'], ranks: number): Way => ({
  method,
  ranks,
  ring_layout: null,
  blocks: 'even',
  anchor: null,
  passing: 0,
});

function waysOfTwo({ shape, fractions }: CalibrateOptions, tokens: number): Way[] {
  return [
    plain('full', 2),
    { ...plain('ring', 2), ring_layout: 'zigzag' },
    ...(shape.queryHeads % 2 === 0 ? [plain('ulysses', 2)] : []),
    { ...plain('apb', 2), ...defaultSizes(tokens / 2, fractions, queryTokens) },
  ];
}

/** In rounds, so that what else the machine does meets all of them. */
async function measureAll(
  cohort: ConfirmRanks,
  options: CalibrateOptions,
  cells: readonly Pick<Measurement, 'way' | 'tokens'>[],
): Promise<Measurement[]> {
  const least = cells.map(() => Infinity);
  const start = performance.now();
  const spent = () => (performance.now() - start) / 1000;
  for (let run = 0; run < mostRuns && (run < leastRuns || spent() < budgetSeconds); run++) {
    for (const [index, { way, tokens }] of cells.entries()) {
      least[index] = Math.min(least[index] as number, await prefill(cohort, options, way, tokens));
    }
  }
  return cells.map((cell, index) => ({ ...cell, seconds: least[index] as number }));
}

/**
 * Seconds of the slowest rank. On processors those that it had one, shared out over its threads: other work on the
 * machine, and waiting for the other rank, do not count.
 */
async function prefill(
  cohort: ConfirmRanks,
  { backend, threads, shape }: CalibrateOptions,
  way: Way,
  tokens: number,
): Promise<number> {
  const random = randomTokens(cohort.vocabulary);
  const reading = { layout: layoutOf(way, tokens), document: random(tokens), query: random(queryTokens) };
  const select: PrefillOptions['select'] = shape.retainingHidden > 0 ? 'heads' : 'spava';
  const ranks = await cohort.measure({ ...reading, select });
  return Math.max(
    ...ranks.map(({ seconds, processorSeconds }) =>
      backend === 'cpu' ? processorSeconds / threads : seconds,
    ),
  );
}

function layoutOf({ method, ranks, ring_layout, anchor, passing }: Way, tokens: number): LayoutOptions {
  return {
    method,
    ranks,
    documentTokens: tokens,
    queryTokens,
    anchorLength: anchor,
    passingLength: passing,
    ringLayout: ring_layout ?? 'contiguous',
  };
}
