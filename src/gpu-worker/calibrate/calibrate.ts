/** Short prefills on rank processes of this machine, from which the planner predicts long ones. */
import { evenBlocks, type Rates } from '../../plan/blocks.js';
import type { Calibration, Subject } from '../../plan/calibration.js';
import type { Way } from '../../plan/cost.js';
import type { Measurement } from '../../plan/fit.js';
import { defaultSizes, type Fractions } from '../../plan/sizes.js';
import type { ModelShape } from '../../plan/work.js';
import { randomTokens } from '../bench/measure.js';
import { withConfirmRanks, type ConfirmRanks } from '../check/confirm-ranks.js';
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
  'engine' | 'comm' | 'seconds_by' | 'places' | 'measured_at' | 'measurements' | 'rates'
>;

/** The prefill of one rank is doubled until it takes so long: below, products hide attention. */
const enoughSeconds = 1;
const shortest = 512;
/** Each prefill is repeated so often, and the least counts; fewer times where all of a cohort's together take long. */
const mostRuns = 5;
const leastRuns = 2;
const budgetSeconds = 15;
const queryTokens = 16;
const timeoutMs = 1_800_000;

/**
 * Prefills of two lengths: by one rank, and by two in every way whose speed is its own.
 * @throws LonghaulError CHECK_RANK when a rank process dies or fails; no process is left behind.
 */
export async function calibrate(options: CalibrateOptions): Promise<Calibrated> {
  const { modelDir, backend, precision, processors, threads, signal, onStep } = options;
  const start = { modelDir, threads, backend, precision, timeoutMs, signal };
  const alone = await withConfirmRanks({ ...start, ranks: 1 }, async (cohort) => {
    onStep?.(`one rank of ${cohort.backend}`);
    const way = plain('full', 1);
    let tokens = Math.min(shortest, options.longest);
    const seconds = async () => (await prefill(cohort, options, way, [tokens]))[0] as number;
    while (2 * tokens <= options.longest && (await seconds()) < enoughSeconds) tokens *= 2;
    const lengths = [tokens, Math.ceil(tokens / 4)];
    const measurements = await measureAll(
      cohort,
      options,
      lengths.map((length) => ({ way, blocks: [length] })),
    );
    return { lengths, engine: cohort.backend, measurements, rates: await leastRates(cohort) };
  });
  const pair = await withConfirmRanks({ ...start, ranks: 2 }, async (cohort) => {
    const { comm } = cohort;
    if (backend === 'cuda' && comm !== 'nccl') {
      onStep?.(
        'two ranks are not measured: they would share a GPU, or lack NCCL; they are taken for as fast',
      );
      return { comm, measurements: [] };
    }
    onStep?.(`two ranks over ${comm}`);
    const cells = alone.lengths.flatMap((tokens) => cellsOfTwo(options, tokens));
    return { comm, measurements: await measureAll(cohort, options, cells) };
  });
  return {
    engine: alone.engine,
    comm: pair.comm,
    seconds_by: backend === 'cpu' ? 'processor' : 'clock',
    places: backend === 'cpu' ? Math.max(1, processors / threads) : null,
    measured_at: new Date().toISOString(),
    measurements: [...alone.measurements, ...pair.measurements],
    rates: alone.rates,
  };
}

/** The least of several times and of all ranks: one time alone may meet other work. */
export async function leastRates(cohort: ConfirmRanks): Promise<Rates> {
  const times: Rates[] = [];
  for (let run = 0; run < mostRuns; run++) times.push(...(await cohort.rates()));
  return {
    rowSeconds: Math.min(...times.map(({ rowSeconds }) => rowSeconds)),
    pairSeconds: Math.min(...times.map(({ pairSeconds }) => pairSeconds)),
  };
}

const plain = (method: Way['method'], ranks: number): Way => ({
  method,
  ranks,
  ring_layout: null,
  blocks: 'even',
  anchor: null,
  passing: 0,
});

type Cell = Pick<Measurement, 'way' | 'blocks'>;

/** `full` with uneven blocks, too: without them, rows and what is received would go together. */
function cellsOfTwo({ shape, fractions }: CalibrateOptions, tokens: number): Cell[] {
  const blocks = evenBlocks(tokens, 2);
  const more = Math.floor((tokens * 5) / 8);
  return [
    { way: plain('full', 2), blocks },
    { way: plain('full', 2), blocks: [more, tokens - more] },
    { way: { ...plain('ring', 2), ring_layout: 'zigzag' }, blocks },
    ...(shape.queryHeads % 2 === 0 ? [{ way: plain('ulysses', 2), blocks }] : []),
    { way: { ...plain('apb', 2), ...defaultSizes(tokens / 2, fractions, queryTokens) }, blocks },
  ];
}

/** In rounds, so that what else the machine does meets all of them. */
async function measureAll(
  cohort: ConfirmRanks,
  options: CalibrateOptions,
  cells: readonly Cell[],
): Promise<Measurement[]> {
  const measured = cells.map((cell) => ({ ...cell, seconds: cell.blocks.map(() => Infinity) }));
  const start = performance.now();
  const spent = () => (performance.now() - start) / 1000;
  for (let run = 0; run < mostRuns && (run < leastRuns || spent() < budgetSeconds); run++) {
    for (const each of measured) {
      const seconds = await prefill(cohort, options, each.way, each.blocks);
      each.seconds = each.seconds.map((least, rank) => Math.min(least, seconds[rank] as number));
    }
  }
  return measured;
}

/**
 * Seconds of each rank. On processors those that it had one, shared out over its threads: other work on the machine,
 * and waiting for the other rank, do not count.
 */
async function prefill(
  cohort: ConfirmRanks,
  { backend, threads, shape }: CalibrateOptions,
  way: Way,
  blocks: number[],
): Promise<number[]> {
  const random = randomTokens(cohort.vocabulary);
  const layout = layoutOf(way, blocks);
  const reading = { layout, document: random(layout.documentTokens), query: random(queryTokens) };
  const select: PrefillOptions['select'] = shape.retainingHidden > 0 ? 'heads' : 'spava';
  const ranks = await cohort.measure({ ...reading, select });
  return ranks.map(({ seconds, processorSeconds }) =>
    backend === 'cpu' ? processorSeconds / threads : seconds,
  );
}

function layoutOf({ method, ranks, ring_layout, anchor, passing }: Way, blocks: number[]): LayoutOptions {
  return {
    method,
    ranks,
    documentTokens: blocks.reduce((sum, tokens) => sum + tokens, 0),
    queryTokens,
    anchorLength: anchor,
    passingLength: passing,
    ringLayout: ring_layout ?? 'contiguous',
    // Zigzag cuts by itself.
    ...(ring_layout === null && { blocks }),
  };
}
