/** `longhaul bench prefill`: how fast rank processes read documents of random tokens. */
import {
  ceilingsOf,
  modelSeconds,
  prefillWork,
  total,
  type Ceilings,
  type ModelShape,
} from '../../plan/work.js';
import { withConfirmRanks, type ConfirmRanks } from '../check/confirm-ranks.js';
import {
  planLayout,
  type BackendName,
  type LayoutOptions,
  type PhaseTimes,
  type Precision,
} from '../engine/engine.js';

export const benchMethods = ['full', 'star', 'apb', 'ring', 'ulysses'] as const;
export type BenchMethod = (typeof benchMethods)[number];

export interface Cell {
  method: BenchMethod;
  ranks: number;
  /** Of each rank. */
  threads: number;
  /** Of the document. */
  tokens: number;
}

export interface CellResult extends Cell {
  /** Anchor and passing length, where the method has them. */
  l_a: number;
  l_p: number;
  /** From the call to the slowest rank's end. */
  seconds: number;
  tokens_per_s: number;
  /** Of the largest rank process, Node and the model included. */
  peak_rss_bytes: number;
  /** Seconds of the slowest rank, all layers together; `other` is what no phase holds. */
  phases: PhaseTimes & { other: number };
  /** Of all ranks together, counted from shapes. */
  flops: number;
  /** FLOP/s of one rank: given, or a Hopper's, or measured before the cell on a CPU. */
  ceilings: Ceilings;
  /** The least that the work takes at these ceilings. */
  model_seconds: number;
  /** Processors over threads, or GPUs; with fewer than ranks, the ranks are virtual: they take turns. */
  places: number;
  backend: string;
  comm: string;
}

export interface BenchOptions {
  modelDir: string;
  shape: ModelShape;
  methods: BenchMethod[];
  ranks: number[];
  threads: number[];
  tokens: number[];
  /** `cpu` unless given. */
  backend?: BackendName;
  /** GPUs that the ranks have; one each unless given. */
  gpus?: number;
  /** Processors that the ranks share on a CPU. */
  processors: number;
  /** Measured on the ranks of a CPU, all at once, unless given; `hopperCeilings` on a GPU. */
  ceilings?: Ceilings;
  /** Of linear layers; float32 unless given. */
  precision?: Precision;
  signal?: AbortSignal;
  onStart?: (cell: Cell, index: number, total: number) => void;
  onResult?: (result: CellResult) => void;
}

/**
 * The model of the time of an H100 and an H200: bfloat16 products and attention at the best that their kernels reach.
 * `measureRates` asks for too little work at a time to show them.
 */
export const hopperCeilings: Ceilings = { linear: 700e12, attention: 600e12 };

const queryTokens = 16;
/**
 * A cell is repeated up to this often while its runs together stay below a second: the best counts. A GPU's first run
 * chooses its algorithms as well, so that there is always a second.
 */
const mostRuns = 5;
const enoughSeconds = 1;
const timeoutMs = 1_800_000;

/** 1024 and 512 at 32,768 tokens, and the same part of other lengths; an anchor also has to hold the query. */
const anchorLength = (tokens: number) => Math.max(64, Math.floor(tokens / 32));
const passingLength = (tokens: number) => Math.floor(tokens / 64);

/** Every method at every number of ranks, but for one rank `full` alone: the others need a second. */
function cells({ methods, ranks, threads, tokens }: BenchOptions): Cell[] {
  return ranks.flatMap((n) =>
    methods
      .filter((method) => n > 1 || method === 'full')
      .flatMap((method) =>
        threads.flatMap((t) => tokens.map((length) => ({ method, ranks: n, threads: t, tokens: length }))),
      ),
  );
}

/**
 * Runs every cell on fresh rank processes, one cell after the other.
 * @throws LonghaulError CHECK_RANK when a rank process dies or fails; no process is left behind.
 */
export async function benchPrefill(options: BenchOptions): Promise<CellResult[]> {
  const all = cells(options);
  const results: CellResult[] = [];
  for (const [index, cell] of all.entries()) {
    options.signal?.throwIfAborted();
    options.onStart?.(cell, index, all.length);
    const result = await runCell(cell, options);
    options.onResult?.(result);
    results.push(result);
  }
  return results;
}

async function runCell(cell: Cell, options: BenchOptions): Promise<CellResult> {
  const { modelDir, shape, backend = 'cpu', precision = 'float32', signal } = options;
  const { method, ranks, threads, tokens } = cell;
  const start = { ranks, modelDir, threads, backend, precision, timeoutMs, signal };
  return withConfirmRanks(start, async (cohort) => {
    const random = randomTokens(cohort.vocabulary);
    const layout: LayoutOptions = {
      method,
      ranks,
      documentTokens: tokens,
      queryTokens,
      anchorLength: method === 'apb' ? anchorLength(tokens) : null,
      passingLength: method === 'apb' ? passingLength(tokens) : 0,
      ringLayout: method === 'ring' ? 'zigzag' : 'contiguous',
    };
    const onCpu = cohort.backend.startsWith('cpu');
    const ceilings = options.ceilings ?? (onCpu ? await measureCeilings(cohort, shape) : hopperCeilings);
    const places = onCpu ? Math.max(1, options.processors / threads) : (options.gpus ?? ranks);
    const work = prefillWork(shape, method, planLayout(layout));
    const reading = { layout, document: random(tokens), query: random(queryTokens) };
    const { seconds, phases, peakRssBytes } = await bestOf(cohort, reading, onCpu ? 1 : 2);
    const known = Object.values(phases).reduce((sum, part) => sum + part, 0);
    return {
      ...cell,
      l_a: layout.anchorLength ?? 0,
      l_p: layout.passingLength,
      seconds,
      tokens_per_s: tokens / seconds,
      peak_rss_bytes: peakRssBytes,
      phases: { ...phases, other: Math.max(0, seconds - known) },
      flops: total(work),
      ceilings,
      model_seconds: modelSeconds(work, ceilings, places),
      places,
      backend: cohort.backend,
      comm: cohort.comm,
    };
  });
}

/** The fastest rank's: it was disturbed least. */
async function measureCeilings(cohort: ConfirmRanks, shape: ModelShape): Promise<Ceilings> {
  const rates = await cohort.rates();
  return ceilingsOf(shape, {
    rowSeconds: Math.min(...rates.map(({ rowSeconds }) => rowSeconds)),
    pairSeconds: Math.min(...rates.map(({ pairSeconds }) => pairSeconds)),
  });
}

/** The best run: its slowest rank, and the memory of its largest. */
async function bestOf(
  cohort: ConfirmRanks,
  reading: Parameters<ConfirmRanks['measure']>[0],
  leastRuns: number,
) {
  const runs = [];
  let spent = 0;
  while (runs.length < mostRuns && (runs.length < leastRuns || spent < enoughSeconds)) {
    const measured = await cohort.measure(reading);
    const { seconds, phases } = measured.reduce((a, b) => (b.seconds > a.seconds ? b : a));
    const peakRssBytes = Math.max(...measured.map((each) => each.peakRssBytes));
    runs.push({ seconds, phases, peakRssBytes });
    spent += seconds;
  }
  return runs.reduce((a, b) => (b.seconds < a.seconds ? b : a));
}

/** Reproducible token ids: speed does not depend on them. */
export function randomTokens(vocabulary: number): (count: number) => Uint32Array {
  let state = 1;
  return (count) =>
    Uint32Array.from({ length: count }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * vocabulary);
    });
}
