import { expect, test } from 'vitest';
import { describeRank } from '../../src/gpu-worker/rank-report.js';
import { initialState } from '../../src/gpu-worker/protocol-types.js';
import { readGpu } from '../../src/gpu-worker/usage.js';

test('a running rank tells its engine’s progress, any other its phase', () => {
  const state = initialState(1, 2, 'a');
  const ticket = { run: 3, batch: 'b', item: 7, epoch: 1 };
  expect(describeRank(state, null)).toEqual({ phase: 'forming', batch: null, item: null, done: 0, total: 0 });
  expect(describeRank({ ...state, phase: 'running', ticket }, null).phase).toBe('prefill');
  const progress = { phase: 'decode', done: 1, total: 4 } as const;
  const told = describeRank({ ...state, phase: 'running', ticket }, progress);
  expect(told).toEqual({ phase: 'decode', batch: 'b', item: 7, done: 1, total: 4 });
});

test('a GPU’s line is read, and what the card does not tell is not known', () => {
  expect(readGpu('NVIDIA H100 80GB HBM3, 1024, 81559, 37\n')).toEqual({
    device: 'NVIDIA H100 80GB HBM3',
    memory_used: 1024 * 1024 ** 2,
    memory_total: 81559 * 1024 ** 2,
    busy: 0.37,
  });
  expect(readGpu('A card, [N/A], 100, [N/A]')).toMatchObject({ memory_used: null, busy: null });
  expect(readGpu('No devices were found')).toBeNull();
});
