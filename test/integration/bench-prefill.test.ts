import { expect, test } from 'vitest';
import { benchCommand } from '../../src/cli/bench.js';
import { benchPrefill, type CellResult } from '../../src/gpu-worker/bench/measure.js';
import { readModelShape } from '../../src/plan/model-shape.js';

const shape = await readModelShape('models/demo');
const small = {
  modelDir: 'models/demo',
  shape,
  processors: 2,
  methods: ['full', 'apb'] as const,
  threads: [1],
  tokens: [512],
};

test('bench prefill measures each cell on rank processes and says where the time went', async () => {
  const results: CellResult[] = [];
  const started: string[] = [];
  await benchPrefill({
    ...small,
    methods: [...small.methods],
    ranks: [1, 2],
    onStart: ({ method, ranks }, index, total) => started.push(`${index + 1}/${total} ${method} ${ranks}`),
    onResult: (result) => results.push(result),
  });
  expect(started).toEqual(['1/3 full 1', '2/3 full 2', '3/3 apb 2']);
  expect(
    results.map(({ method, ranks, threads, tokens, l_a, l_p }) => [method, ranks, threads, tokens, l_a, l_p]),
  ).toEqual([
    ['full', 1, 1, 512, 0, 0],
    ['full', 2, 1, 512, 0, 0],
    ['apb', 2, 1, 512, 64, 8],
  ]);
  for (const {
    seconds,
    tokens_per_s,
    peak_rss_bytes,
    phases,
    backend,
    flops,
    model_seconds,
    ceilings,
  } of results) {
    expect(tokens_per_s).toBeCloseTo(512 / seconds);
    expect(peak_rss_bytes).toBeGreaterThan(30e6);
    expect(backend).toMatch(/^cpu \(/);
    const sum = Object.values(phases).reduce((a, b) => a + b, 0);
    expect(phases.other).toBeLessThan(0.5 * seconds);
    expect(phases.attention).toBeGreaterThan(0);
    expect(sum).toBeCloseTo(seconds);
    expect(flops).toBeGreaterThan(1e9);
    expect(model_seconds).toBeGreaterThan(0);
    expect(ceilings.linear).toBeGreaterThan(1e8);
  }
  const [alone, , apb] = results.map(({ phases }) => phases);
  expect(alone?.communication).toBeLessThan(1e-3); // there is nobody
  expect(alone?.scores).toBe(0);
  expect(apb?.communication).toBeGreaterThan(0);
});

test('bench prefill: bf16 products are what ran, or are refused with what the processor lacks', async () => {
  const backends: string[] = [];
  const cause = await benchPrefill({
    ...small,
    methods: ['full'],
    ranks: [1],
    precision: 'bf16',
    onResult: ({ backend }) => backends.push(backend),
  }).catch((error: unknown) => error);
  if (backends.length > 0) expect(backends[0]).toContain('bf16 products');
  else expect(cause).toMatchObject({ code: 'CHECK_RANK', reason: 'ENGINE_UNSUPPORTED' });
});

test('bench prefill: a rank that cannot load the model ends the command with its error', async () => {
  const cause = await benchPrefill({ ...small, methods: ['full'], modelDir: '/nowhere', ranks: [2] }).catch(
    (error: unknown) => error,
  );
  expect(cause).toMatchObject({ code: 'CHECK_RANK', reason: 'ENGINE_CONFIG' });
});

test.each([
  [['cpu', '--tokens', '12,0'], "'0' is not a whole number"],
  [['cpu', '--methods', 'full,best'], "'best' is none of full, star, apb"],
])('bench %j is refused', async (args, message) => {
  const command = benchCommand().exitOverride();
  for (const own of command.commands) own.exitOverride().configureOutput({ writeErr: () => undefined });
  await expect(command.parseAsync(args, { from: 'user' })).rejects.toThrow(message);
});
