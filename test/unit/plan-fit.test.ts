import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { evenBlocks } from '../../src/plan/blocks.js';
import { choosePlan } from '../../src/plan/choose.js';
import { efforts, kindOf, predictSeconds, type Speeds, type Way } from '../../src/plan/cost.js';
import { fitSpeeds, type Measurement } from '../../src/plan/fit.js';
import type { ModelShape } from '../../src/plan/work.js';
import { facts, plain, speedsOf } from './plan-support.js';

const { shape } = facts();
const base = speedsOf();
/** Two ranks at once are slower in products, and each kind has its own speed of attention. */
const truth: Speeds = {
  linear: { ...base.linear, full: 4.4e-11, ring: 4.4e-11, ulysses: 4.4e-11, apb: 4.4e-11 },
  attention: { alone: 3.3e-11, full: 3.4e-11, ring: 3.6e-11, ulysses: 3.2e-11, apb: 3.5e-11 },
  received: { alone: 0, full: 2e-9, ring: 3e-9, ulysses: 1e-9, apb: 4e-9 },
  rates: base.rates,
};

function measure(way: Way, blocks: number[], noise = () => 1): Measurement {
  const kind = kindOf(way);
  const seconds = efforts(shape, way, blocks).map(
    ({ linear, attention, received }) =>
      noise() *
      (linear * truth.linear[kind] + attention * truth.attention[kind] + received * truth.received[kind]),
  );
  return { way, blocks, seconds };
}
const apb = (tokens: number): Way => ({ ...plain('apb', 2), anchor: tokens / 8, passing: tokens / 16 });
const measured = (noise?: () => number) => [
  ...[8192, 2048].map((tokens) => measure(plain('full', 1), [tokens], noise)),
  ...[8192, 2048].flatMap((tokens) => {
    const blocks = evenBlocks(tokens, 2);
    return [
      measure(plain('full', 2), blocks, noise),
      measure(plain('full', 2), [(tokens * 5) / 8, (tokens * 3) / 8], noise),
      measure({ ...plain('ring', 2), ring_layout: 'zigzag' }, blocks, noise),
      measure(plain('ulysses', 2), blocks, noise),
      measure(apb(tokens), blocks, noise),
    ];
  }),
];

test('each speed comes back from prefills that were made by it', () => {
  const found = fitSpeeds(shape, { measurements: measured(), seconds_by: 'processor', rates: base.rates });
  for (const what of ['linear', 'attention', 'received'] as const) {
    for (const kind of ['alone', 'full', 'ring', 'ulysses', 'apb'] as const) {
      expect(found[what][kind] * 1e11, `${what} of ${kind}`).toBeCloseTo(truth[what][kind] * 1e11, 5);
    }
  }
});

test('a noise of one percent moves predictions of a four times longer document by less than four', () => {
  let state = 1;
  const noise = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 0.99 + (0.02 * state) / 2 ** 32;
  };
  for (let run = 0; run < 50; run++) {
    const given = { measurements: measured(noise), seconds_by: 'processor' as const, rates: base.rates };
    const speeds = fitSpeeds(shape, given);
    for (const way of [plain('full', 1), plain('full', 2), plain('ulysses', 2), apb(32_768)]) {
      const predicted = predictSeconds({ shape, speeds, places: 2 }, way, 32_768);
      const real = predictSeconds({ shape, speeds: truth, places: 2 }, way, 32_768);
      expect(Math.abs(predicted / real - 1)).toBeLessThan(0.04);
    }
  }
});

test('a way that was not measured is taken for as fast as one rank; one rank has to be measured', () => {
  const { attention, linear, received } = fitSpeeds(shape, {
    measurements: measured().slice(0, 2),
    seconds_by: 'processor',
    rates: base.rates,
  });
  expect(attention.apb).toBe(attention.alone);
  expect(linear.ring).toBe(linear.alone);
  expect(received.full).toBe(0);
  const none = { measurements: measured().slice(1), seconds_by: 'processor' as const, rates: base.rates };
  expect(() => fitSpeeds(shape, none)).toThrow('two lengths');
});

/** As docs/benchmarks/methods.md has them: Llama-3.1-8B's shapes on one and two H100, by the clock. */
const llama: ModelShape = {
  layers: 32,
  hidden: 4096,
  intermediate: 14_336,
  queryHeads: 32,
  keyValueHeads: 8,
  headDimension: 128,
  retainingHidden: 1024,
};
interface GpuRun {
  method: string;
  ranks: number;
  tokens: number;
  anchor: number;
  passing: number;
  seconds: number[];
}
const gpuRuns = readFileSync('docs/benchmarks/methods.jsonl', 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as GpuRun)
  .map((run) => {
    const [method, cut] = run.method.split(' ') as [Way['method'], string | undefined];
    const sizes = method === 'apb' ? { anchor: run.anchor, passing: run.passing } : {};
    const ring_layout = method !== 'ring' ? null : cut === 'zigzag' ? 'zigzag' : 'contiguous';
    const blocks = cut === 'uneven' ? 'balanced' : 'even';
    const way: Way = { ...plain(method, run.ranks), ...sizes, ring_layout, blocks };
    return { way, tokens: run.tokens, seconds: Math.min(...run.seconds) };
  });

test('on H100, from prefills of 32K and 64K tokens, every way at 128K and 256K is predicted and the best chosen', () => {
  const short = gpuRuns.filter(
    ({ way, tokens }) => tokens <= 65_536 && way.blocks === 'even' && way.ring_layout !== 'contiguous',
  );
  const speeds = fitSpeeds(llama, {
    measurements: short.map(({ way, tokens, seconds }) => ({
      way,
      blocks: evenBlocks(tokens, way.ranks),
      seconds: Array.from({ length: way.ranks }, () => seconds),
    })),
    seconds_by: 'clock',
    rates: { rowSeconds: 2.1e-5, pairSeconds: 9.3e-10 },
  });
  const model = { shape: llama, speeds, places: Infinity };
  // l_a 4096 and l_p 2048 at 128K.
  const fractions = { anchor_per_block: 1 / 16, passing_per_block: 1 / 32 };
  for (const tokens of [131_072, 262_144]) {
    const runs = gpuRuns.filter((run) => run.tokens === tokens);
    for (const { way, seconds } of runs) {
      const predicted = predictSeconds(model, way, tokens);
      expect(Math.abs(predicted / seconds - 1), `${JSON.stringify(way)} ${predicted}`).toBeLessThan(0.1);
    }
    const request = { tokens, longestQuery: 64, ranks: [1, 2], policy: 'balanced' as const };
    const { chosen } = choosePlan({ ...model, fractions }, request);
    const same = runs.find(({ way }) => way.method === chosen.method && way.blocks === chosen.blocks);
    expect(same?.seconds).toBeLessThan(1.05 * Math.min(...runs.map(({ seconds }) => seconds)));
  }
});
