import { beforeEach, expect, test } from 'vitest';
import { createBatch } from '../../src/batch/create.js';
import { deadId, listDead } from '../../src/batch/dead.js';
import { readManifest } from '../../src/batch/manifest.js';
import { getStatus } from '../../src/batch/status.js';
import { deadCommand } from '../../src/cli/dead.js';
import type { EngineDeath } from '../../src/contracts/work-item.js';
import { objectKeys } from '../../src/platform/keys.js';
import { failItem, makeBatch, makeResult, newId, useBench, type Bench } from './batch-support.js';
import { runCommand } from './run-command.js';

const file = useBench();
let bench: Bench;
beforeEach(() => {
  ({ bench } = file);
});
const dead = (...args: string[]) => runCommand(bench.config, deadCommand(), ...args);

const history: EngineDeath[] = [1, 2, 3].map((epoch) => ({
  cohort: 'main',
  generation: `${epoch}.abc`,
  epoch,
  at: 1_700_000_000 + epoch,
  rank: epoch === 3 ? null : epoch,
  phase: epoch === 3 ? null : 'prefill',
  code: 'COMM_PEER_LOST',
  message: `death ${epoch}`,
}));
const poison = () => failItem({ end: 'failed', code: 'POISON', message: 'it ended 3 cohorts', history });

/** A finished batch whose items 1 (2 requests) and 3 are dead, and item 4 failed in another way. */
async function withDead(): Promise<string> {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [1, 2, 1, 1, 1] });
  for (const { document } of items)
    await bench.deps.store.create(objectKeys.document(document.sha256), 'ids');
  bench.aggregator();
  bench.answering(({ batch_id, item }) => {
    if (batch_id === id && (item === 1 || item === 3)) poison();
    if (batch_id === id && item === 4) failItem({ end: 'failed', code: 'TOO_LONG', message: 'x' });
    return makeResult(items[item]!);
  });
  await createBatch(bench.deps, manifest, items);
  await bench.ended(id);
  return id;
}

test('a dead item has a record with its history, written before its outcomes, that outlives Redis', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [2] });
  await createBatch(bench.deps, manifest, items);
  const held = await file.s3.faults.add({
    operation: 'PutObject',
    key: `${id}/outcomes/`,
    times: 1000,
    action: { kind: 'error' },
  });
  const aggregator = bench.aggregator({ ...bench.config, s3Attempts: 1 });
  bench.answering(() => poison());
  await bench.until(async () => ((await file.s3.faults.hits(held)) > 0 ? true : undefined));
  expect(await listDead(bench.deps, { batch: id })).toEqual([
    {
      format: 'longhaul-dead/1',
      batch_id: id,
      item: 0,
      document: items[0]!.document,
      custom_ids: ['request 0', 'request 1'],
      code: 'POISON',
      message: 'it ended 3 cohorts',
      history,
    },
  ]);
  await file.s3.faults.clear();
  expect((await bench.ended(id)).request_counts).toMatchObject({ total: 2, failed: 2 });
  await aggregator.stop();
  await bench.deps.redis.flushall();
  const { error } = await bench.files(id);
  expect(error.map((line) => line.error?.code)).toEqual(['POISON', 'POISON']);
  const shown = await dead('show', `${id}/0`);
  expect(shown.stdout).toContain(
    '2023-11-14T22:13:21.000Z  epoch 1, cohort main, generation 1.abc, rank 1, prefill',
  );
  expect(shown.stdout).toContain('rank not known, phase not known: COMM_PEER_LOST: death 3');
});

test('list, redrive of one item and of a batch, drop', async () => {
  const id = await withDead();
  const listed = await dead('list', '--batch', id, '--json');
  expect((JSON.parse(listed.stdout) as { item: number }[]).map(({ item }) => item)).toEqual([1, 3]);
  expect((await dead('list')).stdout).toContain(
    `${id}/1  2 requests on a document of 1001 tokens, 3 cohorts ended`,
  );

  const one = (await dead('redrive', `${id}/3`)).stdout.trim();
  const both = (await dead('redrive', id)).stdout.trim();
  const requests = async (batch: string) => {
    const { header, requests } = await readManifest(bench.deps.store, batch);
    expect(header.retry_of).toBe(id);
    return requests.map(({ custom_id }) => custom_id);
  };
  expect(await requests(one)).toEqual(['request 4']);
  expect(await requests(both)).toEqual(['request 1', 'request 2', 'request 4']);
  expect((await dead('redrive', id)).stdout.trim()).toBe(both);

  await expect(dead('drop', id)).rejects.toMatchObject({
    code: 'UNCONFIRMED',
    message: 'this would drop the history of 2 dead items for good; add --yes to do it',
  });
  expect(await listDead(bench.deps, { batch: id })).toHaveLength(2);
  const outcomes = await bench.outcomeKeys(id);
  expect((await dead('drop', `${id}/1`, '--yes')).stdout).toBe(`dropped ${id}/1\n`);
  expect((await listDead(bench.deps, { batch: id })).map(deadId)).toEqual([`${id}/3`]);
  expect(await bench.outcomeKeys(id)).toEqual(outcomes);
  expect((await getStatus(bench.deps, id)).request_counts).toMatchObject({ failed: 4, answered: 2 });
  await expect(dead('show', `${id}/1`)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(dead('show', `${id}/x`)).rejects.toMatchObject({ code: 'DEAD_NAME' });
});

test('dead items of a batch that is not finished cannot be redriven yet', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [1, 1] });
  await createBatch(bench.deps, manifest, items);
  bench.aggregator();
  let open = () => undefined as void;
  const gate = new Promise<void>((go) => (open = go));
  bench.answering(async ({ item }) => {
    if (item === 0) poison();
    await gate;
    return makeResult(items[item]!);
  });
  await bench.until(async () =>
    (await listDead(bench.deps, { batch: id })).length === 1 ? true : undefined,
  );
  await expect(dead('redrive', id)).rejects.toMatchObject({ code: 'NOT_FINISHED' });
  open();
});
