import { expect, test } from 'vitest';
import type { CellResult } from '../../src/gpu-worker/bench/measure.js';
import { svg } from '../../src/gpu-worker/bench/report.js';

const phases = {
  qkv: 1,
  scores: 1,
  selection: 1,
  communication: 1,
  attention: 4,
  output: 1,
  mlp: 2,
  other: 1,
};
const cell: CellResult = {
  method: 'apb',
  ranks: 8,
  threads: 1,
  tokens: 131_072,
  l_a: 4096,
  l_p: 2048,
  seconds: 12,
  tokens_per_s: 10_000,
  peak_rss_bytes: 1e8,
  phases,
  flops: 1e12,
  ceilings: { linear: 1e11, attention: 1e11 },
  model_seconds: 6,
  places: 2,
  backend: 'cpu (avx2, 1 thread)',
  comm: 'tcp',
};

test('bars: no label begins left of the picture, and no word of the legend reaches the next', () => {
  const picture = svg([cell, { ...cell, method: 'full', ranks: 1, l_a: 0, l_p: 0 }]);
  // 7 pixels are what a letter takes in DejaVu Sans of 12.
  const texts = [...picture.matchAll(/<text x="(\d+)" y="(\d+)"([^>]*)>([^<]+)</g)].map(
    ([, x, y, more, words = '']) => ({ x: Number(x), y: Number(y), ends: more?.includes('end'), words }),
  );
  const labels = texts.filter(({ ends }) => ends);
  expect(labels.map(({ words }) => words)).toContain(
    'apb (l_a 4096, l_p 2048), 8 x 1, virtual ranks on 2 processors',
  );
  for (const { x, words } of labels) expect(x - 7 * words.length).toBeGreaterThanOrEqual(0);
  const legend = texts.filter(({ y }) => y === 20);
  expect(legend.map(({ words }) => words)).toEqual(Object.keys(phases));
  legend.slice(1).forEach(({ x }, index) => {
    const { x: before = 0, words = '' } = legend[index] ?? {};
    expect(before + 7 * words.length + 12).toBeLessThan(x); // 12: the next one's square
  });
});
