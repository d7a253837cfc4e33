import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createBatch } from '../../src/batch/create.js';
import { readHeader } from '../../src/batch/header.js';
import { readManifest } from '../../src/batch/manifest.js';
import { downloadOverlay } from '../../src/batch/overlay.js';
import { retryBatch } from '../../src/batch/retry.js';
import { resultsCommand } from '../../src/cli/results.js';
import { retryCommand } from '../../src/cli/retry.js';
import type { Outcome } from '../../src/contracts/outcome.js';
import { workItem, type WorkItem } from '../../src/contracts/work-item.js';
import { objectKeys } from '../../src/platform/keys.js';
import { tempDir } from '../support/services.js';
import { failItem, makeBatch, makeResult, newId, useBench, type Bench } from './batch-support.js';
import { runCommand } from './run-command.js';

const file = useBench();
let bench: Bench;
let directory: string;
beforeEach(async () => {
  ({ bench } = file);
  directory = await tempDir('longhaul-overlay-');
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

async function itemOf(batch: string, index: number): Promise<WorkItem> {
  return workItem.parse(JSON.parse((await bench.deps.store.get(objectKeys.item(batch, index))).toString()));
}

/** A finished batch of five items (1, 3, 2, 1, 2 requests): items 1 and 3 failed, item 4 was cancelled, the rest is answered. */
async function finished(): Promise<{ id: string; items: WorkItem[]; cohort: { fail: Set<string> } }> {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [1, 3, 2, 1, 2] });
  for (const { document } of items) {
    await bench.deps.store.create(objectKeys.document(document.sha256), 'ids');
  }
  const cohort = { fail: new Set([`${id}/1`, `${id}/3`]) };
  bench.aggregator();
  bench.answering(async ({ batch_id, item }) => {
    if (cohort.fail.has(`${batch_id === id ? id : 'a retry'}/${item}`))
      failItem({ end: 'failed', code: 'TOO_LONG', message: 'x' });
    if (batch_id === id && item === 4) failItem({ end: 'cancelled', code: 'CANCELLED', message: 'x' });
    return makeResult(await itemOf(batch_id, item), batch_id);
  });
  await createBatch(bench.deps, manifest, items);
  await bench.ended(id);
  return { id, items, cohort };
}

async function lines(path: string): Promise<Outcome[]> {
  const text = await readFile(path, 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Outcome);
}

test('a retry has exactly the requests that failed, with their ids, queries, options and documents', async () => {
  const { id, items } = await finished();
  const documents = items.map(({ document }) => document);
  const touched = await file.s3.faults.add({
    key: 'documents/',
    operation: 'PutObject',
    times: 1000,
    action: { kind: 'delay', ms: 0 },
  });
  const read = await file.s3.faults.add({
    key: 'documents/',
    operation: 'GetObject',
    times: 1000,
    action: { kind: 'delay', ms: 0 },
  });
  const { id: retry, created, header } = await retryBatch(bench.deps, id);
  expect(created).toBe(true);
  expect(header).toMatchObject({
    retry_of: id,
    totals: { requests: 4, questions: 4, documents: 2, items: 2 },
  });
  const manifest = await readManifest(bench.deps.store, retry);
  expect(
    manifest.requests.map(({ ordinal, custom_id, item, document }) => [ordinal, custom_id, item, document]),
  ).toEqual([
    [0, 'request 1', 0, documents[1]],
    [1, 'request 2', 0, documents[1]],
    [2, 'request 3', 0, documents[1]],
    [3, 'request 6', 1, documents[3]],
  ]);
  const source = await readManifest(bench.deps.store, id);
  expect(header).toMatchObject({ options: source.header.options, digests: source.header.digests });
  const item = await itemOf(retry, 1);
  expect(item.requests).toEqual([{ ...items[3]!.requests[0], ordinal: 3 }]);
  expect(await Promise.all([touched, read].map((rule) => file.s3.faults.hits(rule)))).toEqual([0, 0]);

  expect((await bench.ended(retry)).request_counts).toMatchObject({ total: 4, answered: 4 });
  const again = await retryBatch(bench.deps, id);
  expect(again).toMatchObject({ id: retry, created: false });
  const other = await retryBatch(bench.deps, id, { isNew: true, ranks: 2, windowSeconds: 3600, priority: 7 });
  expect(other.id).not.toBe(retry);
  expect(other.header).toMatchObject({ retry_of: id, options: { ranks: 2 }, priority: 7 });
  expect(other.header.expires_at).toBe(other.header.created_at + 3600);
  expect(await itemOf(other.id, 0)).toMatchObject({
    options: { ranks: 2 },
    expires_at: other.header.expires_at,
  });
});

test('--only takes any of the ends', async () => {
  const { id } = await finished();
  const cancelled = await retryBatch(bench.deps, id, { only: ['cancelled'] });
  expect(cancelled.header.totals).toMatchObject({ requests: 2, items: 1 });
  const all = await retryBatch(bench.deps, id, { only: ['failed', 'cancelled', 'expired'] });
  expect(all.header.totals).toMatchObject({ requests: 6, items: 3 });
  const none = retryBatch(bench.deps, id, { only: ['expired'] });
  await expect(none).rejects.toMatchObject({
    code: 'NOTHING_TO_RETRY',
    message: `batch ${id} has no expired requests (3 answered, 4 failed, 2 cancelled, 0 expired)`,
  });
});

test('refused: an unfinished batch, one that is not there, documents that are gone', async () => {
  const open = newId();
  const { manifest, items } = makeBatch(open, { items: [1] });
  await createBatch(bench.deps, manifest, items);
  await expect(retryBatch(bench.deps, open)).rejects.toMatchObject({ code: 'NOT_FINISHED' });
  await expect(retryBatch(bench.deps, newId())).rejects.toMatchObject({ code: 'NOT_FOUND' });
  const done = await finished();
  await bench.deps.store.delete(objectKeys.document(done.items[3]!.document.sha256));
  await expect(retryBatch(bench.deps, done.id)).rejects.toMatchObject({
    code: 'DOCUMENT_GONE',
    message: expect.stringContaining('the document of request request 6') as string,
  });
});

describe('the overlay', () => {
  test('has each request once, in order, with the answers of a chain of retries', async () => {
    const { id, cohort } = await finished();
    // What a retry leaves that died before its manifest.
    await bench.deps.store.create(objectKeys.retry(id, 'batch_of_nobody'), '{}\n');
    const bare = await downloadOverlay(bench.deps, id, directory);
    expect(bare.overlay).toMatchObject({
      retries: [],
      counts: { total: 9, answered: 3, failed: 4, cancelled: 2 },
    });

    // The retry answers item 1 of the source; its own second item fails again, and is retried in turn.
    cohort.fail.add('a retry/1');
    const first = (await retryBatch(bench.deps, id)).id;
    const early = downloadOverlay(bench.deps, id, directory);
    await expect(early).rejects.toMatchObject({ code: 'NOT_FINISHED' });
    await bench.ended(first);
    const second = (await retryBatch(bench.deps, first)).id;
    await bench.ended(second);

    const { overlay, output, error } = await downloadOverlay(bench.deps, id, directory);
    expect(overlay).toMatchObject({
      retries: [first, second],
      counts: { total: 9, answered: 7, failed: 0, cancelled: 2, expired: 0 },
    });
    const answered = await lines(output);
    expect(answered.map(({ custom_id, batch_id }) => [custom_id, batch_id])).toEqual([
      ['request 0', id],
      ['request 1', first],
      ['request 2', first],
      ['request 3', first],
      ['request 4', id],
      ['request 5', id],
      ['request 6', second],
    ]);
    const rest = await lines(error);
    expect(rest.map(({ custom_id, status }) => [custom_id, status])).toEqual([
      ['request 7', 'cancelled'],
      ['request 8', 'cancelled'],
    ]);
    expect(JSON.parse(await readFile(join(directory, '_SUCCESS'), 'utf8'))).toEqual(overlay);

    // Named: only that one. Its error, the newer, stands for request 6.
    const named = await downloadOverlay(bench.deps, id, directory, [first]);
    expect(named.overlay.counts).toMatchObject({ answered: 6, failed: 1, cancelled: 2 });
    const [failed] = await lines(named.error);
    expect([failed?.custom_id, failed?.batch_id]).toEqual(['request 6', first]);
    // A retry of a retry is one of the source too; the source is none of its retry's.
    const last = await downloadOverlay(bench.deps, id, directory, [second]);
    expect(last.overlay.counts).toMatchObject({ answered: 4, failed: 3 });
    await expect(downloadOverlay(bench.deps, first, directory, [id])).rejects.toMatchObject({
      code: 'NOT_A_RETRY',
    });
  });

  test('an answer of the batch itself is never replaced', async () => {
    const { id } = await finished();
    // Both retries answer the same requests: the older one's stand.
    const first = await retryBatch(bench.deps, id);
    await bench.ended(first.id);
    const second = await retryBatch(bench.deps, id, { isNew: true });
    await bench.ended(second.id);
    const oldest =
      first.header.created_at < second.header.created_at || first.id < second.id ? first.id : second.id;
    const { output, overlay } = await downloadOverlay(bench.deps, id, directory);
    expect(overlay.retries).toHaveLength(2);
    const texts = (await lines(output)).map(({ batch_id }) => batch_id);
    expect(new Set(texts)).toEqual(new Set([id, oldest]));
    expect((await readHeader(bench.deps.store, oldest)).retry_of).toBe(id);
  });
});

test('the commands: retry prints the id of the new batch, results lays it over', async () => {
  const { id } = await finished();
  const retried = await runCommand(
    bench.config,
    retryCommand(),
    id,
    '--only',
    'cancelled,failed',
    '--ranks',
    '2',
  );
  const retry = retried.stdout.trim();
  expect(retried.stderr).toBe(`retry of ${id}: 6 requests, 3 documents\n`);
  expect(await readHeader(bench.deps.store, retry)).toMatchObject({ retry_of: id, options: { ranks: 2 } });
  const again = await runCommand(
    bench.config,
    retryCommand(),
    id,
    '--only',
    'failed,cancelled',
    '--ranks',
    '2',
    '--json',
  );
  expect(JSON.parse(again.stdout)).toMatchObject({ id: retry, created: false, retry_of: id });
  const wrong = runCommand(bench.config, retryCommand(), id, '--only', 'failed,answered');
  await expect(wrong).rejects.toThrow('any of failed,expired,cancelled, not answered');

  await bench.ended(retry);
  const results = await runCommand(
    bench.config,
    resultsCommand(),
    id,
    '--out',
    directory,
    '--overlay',
    retry,
  );
  expect(results.stdout.split('\n').slice(0, 2)).toEqual([
    `${id} with ${retry}`,
    `${directory}/output.jsonl  9 answered`,
  ]);
  expect(await lines(join(directory, 'output.jsonl'))).toHaveLength(9);
});
