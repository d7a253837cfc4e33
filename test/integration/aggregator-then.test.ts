/** Which documents a second batch asks about, and when none is started. */
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { createBatch } from '../../src/batch/create.js';
import { readManifest } from '../../src/batch/manifest.js';
import { getStatus } from '../../src/batch/status.js';
import { readThen, thenId } from '../../src/batch/then.js';
import { objectKeys } from '../../src/platform/keys.js';
import { loadTokenizer } from '../../src/text/tokenizer.js';
import { failItem, makeBatch, makeResult, newId, useBench } from './batch-support.js';

const own = useBench();
const modelDir = fileURLToPath(new URL('../fixtures/tiny-model', import.meta.url));

/** Each of these documents was split into two parts, each an item of its own. */
async function splitBatch(id: string, names: string[]) {
  const { manifest, items } = makeBatch(id, { items: names.flatMap(() => [1, 1]) });
  const tokenizer = await loadTokenizer(modelDir);
  const digests = { ...manifest.header.digests, tokenizer: tokenizer.digest };
  await tokenizer.close();
  const header = { ...manifest.header, digests, then: { question: 'And in all?' } };
  const requests = manifest.requests.map((request) => {
    const index = request.ordinal % 2;
    const place = { index, count: 2, start: 900 * index, end: 1000 + 900 * index };
    return { ...request, part: { of: names[(request.ordinal - index) / 2] ?? '', ...place } };
  });
  return { manifest: { header, requests }, items: items.map((item) => ({ ...item, digests })) };
}

test('only documents with all of their answers, and room for them, are asked about', async () => {
  const { bench } = own;
  const { store } = bench.deps;
  const id = newId();
  const { manifest, items } = await splitBatch(id, ['good', 'half', 'long']);
  const [any] = items;
  bench.answering(({ batch_id, item }) => {
    const known = batch_id === id ? items[item] : any;
    if (known === undefined) throw new Error(`no item ${item}`);
    if (item === 3) return failItem({ end: 'failed', code: 'TOO_LONG', message: 'no room' });
    return makeResult(known, item < 4 ? 'blue' : 'sky '.repeat(4000));
  });
  const second = thenId(manifest.header);

  // The wrong model: the batch's files are there, and it waits for another aggregator.
  const wrong = bench.aggregator({
    ...bench.config,
    modelDir: fileURLToPath(new URL('../../models/demo', import.meta.url)),
  });
  await createBatch(bench.deps, manifest, items);
  await bench.until(async () => (await store.exists(objectKeys.success(id))) || undefined);
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(await getStatus(bench.deps, id)).toMatchObject({ status: 'finalizing', then: null });
  expect(await readThen(store, id)).toBeUndefined();
  await wrong.stop();

  bench.aggregator({ ...bench.config, modelDir });
  expect(await bench.ended(id)).toMatchObject({ status: 'completed', then: second });
  const left = (await readThen(store, id))?.left_out;
  expect(left).toEqual([
    { custom_id: 'half', code: 'PART_UNANSWERED', message: 'part 2 of 2 has no answer: no room [TOO_LONG]' },
    {
      custom_id: 'long',
      code: 'PARTS_TOO_LONG',
      message: expect.stringMatching(/of its 2 parts have \d+ tokens/) as string,
    },
  ]);
  const { requests, header } = await readManifest(store, second);
  expect(header).toMatchObject({ then_of: id, totals: { requests: 1, items: 1 } });
  expect(header.then).toBeUndefined();
  expect(requests).toMatchObject([{ custom_id: 'good', questions: ['And in all?'] }]);
  expect(await bench.ended(second)).toMatchObject({ status: 'completed', then: null, then_of: id });
});

test('who cancels gets no second batch', async () => {
  const { bench } = own;
  const id = newId();
  const { manifest, items } = await splitBatch(id, ['done', 'cancelled']);
  bench.answering(({ item }) => {
    const known = items[item];
    if (known !== undefined && item < 2) return makeResult(known, 'blue');
    return failItem({ end: 'cancelled', code: 'CANCELLED', message: 'cancelled while it ran' });
  });
  bench.aggregator({ ...bench.config, modelDir });
  await createBatch(bench.deps, manifest, items);
  expect(await bench.ended(id)).toMatchObject({ status: 'cancelled', then: null });
  const record = await readThen(bench.deps.store, id);
  expect(record?.batch_id).toBeNull();
  expect(record?.left_out.map(({ custom_id, code }) => [custom_id, code])).toEqual([
    ['done', 'CANCELLED'],
    ['cancelled', 'CANCELLED'],
  ]);
});
