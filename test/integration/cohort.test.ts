/** Cohorts of real rank processes over a real Redis and a real S3 server: from a queued item to its answers. */
import { beforeEach, describe, expect, it } from 'vitest';
import { raiseCancel } from '../../src/batch/flags.js';
import type { RunOptions } from '../../src/contracts/request.js';
import { itemFailure, workItem } from '../../src/contracts/work-item.js';
import { objectKeys } from '../../src/platform/keys.js';
import type { Bench } from '../chaos/cohort-support.js';
import { documentOf, full, texts, until, useBench, type Services } from '../chaos/cohort-support.js';

const file = useBench(8);
let services: Services;
let bench: Bench;
beforeEach(() => {
  ({ bench, services } = file);
});

const question = [20, 31, 42, 53];

describe('a cohort', () => {
  const document = documentOf(1000);
  let single: string[];

  it('of one rank answers an item', async () => {
    bench.cohort(1);
    const state = await bench.ready('c1');
    expect(state).toMatchObject({ ranks: '1', model: services.modelDir });
    const id = await bench.submit(full(1), [{ document, questions: [question, [99, 98, 97]] }]);
    const result = await bench.answered(id);
    expect(result.execution).toMatchObject({
      cohort: 'c1',
      epoch: 1,
      method: 'full',
      ranks: 1,
      comm: 'solo',
    });
    expect(result.execution.backend).toMatch(/^cpu/);
    expect(result.requests[0]?.usage).toMatchObject({ document_tokens: 1000, query_tokens: 7 });
    single = texts(result);
    expect(single).toHaveLength(2);
  });

  it.each([2, 4])('of %i ranks gives the same answers by every exact method', async (ranks) => {
    bench.cohort(ranks);
    const ring: RunOptions = { ...full(ranks), method: 'ring', ring_layout: 'contiguous' };
    const ulysses: RunOptions = { ...full(ranks), method: 'ulysses' };
    const items = [{ document, questions: [question, [99, 98, 97]] }];
    const ways: RunOptions[] = [
      full(ranks),
      { ...full(ranks), blocks: 'balanced' },
      ring,
      { ...ring, ring_layout: 'zigzag' },
      { ...ring, blocks: 'balanced' },
      ...(ranks === 2 ? [ulysses] : []),
    ];
    for (const options of ways) {
      const result = await bench.answered(await bench.submit(options, items));
      expect(texts(result)).toEqual(single);
      const { method, ring_layout, blocks, comm } = result.execution;
      expect({ method, ring_layout, comm }).toEqual({
        method: options.method,
        ring_layout: options.ring_layout,
        comm: 'tcp',
      });
      expect(blocks).toHaveLength(ranks);
      expect(blocks.reduce((a, b) => a + b, 0)).toBe(1000);
      if (options.blocks === 'even') expect(Math.max(...blocks) - Math.min(...blocks)).toBeLessThanOrEqual(1);
      else for (const block of blocks.slice(0, -1)) expect(block % 16).toBe(0);
    }
    if (ranks === 2) return;
    expect(await bench.failed(await bench.submit(ulysses, items))).toMatchObject({
      code: 'ENGINE_UNSUPPORTED',
      message: expect.stringContaining("4 ranks do not divide the model's 2") as unknown,
    });
    // The cohort works on.
    expect(texts(await bench.answered(await bench.submit(full(ranks), items)))).toEqual(single);
  });

  it('balances blocks by its measured rates: later ranks see more, and hold less', async () => {
    bench.cohort(2);
    const items = [{ document: documentOf(6000), questions: [question] }];
    const apb = { ...full(2), method: 'apb' as const, anchor: 1024, passing: 512, select: 'heads' as const };
    const [even, balanced, exact] = await Promise.all(
      [apb, { ...apb, blocks: 'balanced' as const }, { ...full(2), blocks: 'balanced' as const }].map(
        async (options) => (await bench.answered(await bench.submit(options, items))).execution.blocks,
      ),
    );
    expect(even).toEqual([3000, 3000]);
    for (const blocks of [balanced, exact]) {
      expect(blocks?.[0]).toBeGreaterThan(3100);
      expect((blocks?.[0] ?? 0) + (blocks?.[1] ?? 0)).toBe(6000);
    }
  });

  it('selects as it is told, and the outcome says so', async () => {
    bench.cohort(2);
    for (const select of ['heads', 'spava', 'random'] as const) {
      const options: RunOptions = { ...full(2), method: 'apb', anchor: 32, passing: 16, select };
      const id = await bench.submit(options, [{ document, questions: [question] }]);
      expect((await bench.answered(id)).execution).toMatchObject({ method: 'apb', select });
    }
  });

  it('runs apb and star, several items, and questions in groups', async () => {
    bench.cohort(2);
    const questions = [0, 1, 2, 3, 4].map((i) => question.map((token) => token + i));
    const items = [1, 2, 3].map((seed) => ({ document: documentOf(500, seed), questions }));
    const apb = await bench.submit(
      { ...full(2), method: 'apb', anchor: 32, passing: 16, select: 'heads' },
      items,
    );
    const star = await bench.submit({ ...full(2), method: 'star', anchor: 32 }, items);
    // Without a query in the anchor, and with nothing passed, apb is star: the same anchor, the same answers.
    const bare = { ...full(2), method: 'apb', anchor: 32, select: 'heads', anchor_query: 'none' } as const;
    const none = await bench.submit(bare, items);
    const one = await bench.submit({ ...bare, anchor_query: 'one' }, items);
    const answers: string[][] = [];
    for (const id of [apb, star, none, one]) {
      for (const item of [0, 1, 2]) {
        const result = await bench.answered(id, item);
        expect(result.requests[0]?.answers).toHaveLength(5);
        expect(result.requests[0]?.answers.every((a) => a.tokens > 0)).toBe(true);
        answers.push(texts(result));
      }
    }
    expect(answers.slice(6, 9)).toEqual(answers.slice(3, 6));
    expect(answers.slice(9)).not.toEqual(answers.slice(3, 6));
    expect((await bench.answered(none)).execution.anchor_query).toBe('none');
  });
});

describe('a cohort tells what is wrong with an item, once and finally', () => {
  it('a damaged document, a truncated one, a missing one, and one that is too long', async () => {
    const documents = [71, 72, 73, 74, 75].map((seed) => documentOf(100, seed));
    const id = await bench.submit(
      full(2),
      documents.map((document, i) => ({
        document,
        questions: [question],
        maxTokens: i === 3 ? 200_000 : 8,
      })),
    );
    const key = async (item: number) => {
      const text = (await bench.store.get(objectKeys.item(id, item))).toString();
      return objectKeys.document(workItem.parse(JSON.parse(text)).document.sha256);
    };
    await bench.store.put(await key(0), [Buffer.alloc(400)]);
    await bench.store.put(await key(1), [Buffer.from(new Uint8Array(documentOf(25, 72).buffer))]);
    await bench.store.delete(await key(2));
    bench.cohort(2);
    expect(await bench.failed(id, 0)).toMatchObject({ end: 'failed', code: 'BAD_DOCUMENT' });
    // Found by the leader's hash or by a follower's range, whichever is first.
    const { code } = (await bench.failed(id, 1)) as { code: string };
    expect(['BAD_DOCUMENT', 'TRUNCATED']).toContain(code);
    expect(await bench.failed(id, 2)).toMatchObject({ end: 'failed', code: 'NOT_FOUND' });
    expect(await bench.failed(id, 3)).toMatchObject({ end: 'failed', code: 'TOO_LONG' });
    expect((await bench.answered(id, 4)).requests).toHaveLength(1);
    for (const item of [0, 1, 2, 3]) expect((await bench.job(id, item)).attemptsStarted).toBe(1);
  });

  it('a document too long for its memory, with the longest that fits; nothing is burned, and others go on', async () => {
    // One rank alone has less room than the other: both say the same.
    const cohort = bench.cohort(2, 'small', {}, (rank) => ({ documentMemoryMb: rank === 0 ? 64 : 16 }));
    const items = [documentOf(20_000), documentOf(100, 1)].map((document) => ({
      document,
      questions: [question],
    }));
    const id = await bench.submit(full(2), items);
    const failure = itemFailure.parse(await bench.failed(id));
    expect(failure).toMatchObject({ end: 'failed', code: 'ENGINE_TOO_LONG_FOR_MEMORY' });
    expect(failure.message).toMatch(/^the document has 20000 tokens, .*rank 1 needs .* has 16777216\)/);
    const longest = Number(/this way has (\d+)/.exec(failure.message)?.[1]);
    expect(longest).toBeGreaterThan(100);
    expect((await bench.answered(id, 1)).requests).toHaveLength(1);
    // And the longest does fit.
    const fitting = await bench.submit(full(2), [
      { document: documentOf(longest, 2), questions: [question] },
      { document: documentOf(longest + 1, 3), questions: [question] },
    ]);
    expect((await bench.answered(fitting)).requests).toHaveLength(1);
    expect(await bench.failed(fitting, 1)).toMatchObject({ code: 'ENGINE_TOO_LONG_FOR_MEMORY' });
    expect((await bench.job(id)).attemptsStarted).toBe(1);
    expect(cohort.starts).toBe(1);
  });

  it('leaves an item for another model to another cohort, unburned, and says why', async () => {
    bench.cohort(1);
    const id = await bench.submit(full(1), [{ document: documentOf(50), questions: [question] }], {
      digests: { model: 'a'.repeat(64) },
    });
    await until('a fault on record', 20_000, async () => {
      const [key] = await bench.redis.keys(`*:item:${id}:0`);
      const fault = key === undefined ? null : await bench.redis.hget(key, 'last_fault');
      return fault?.startsWith('MODEL_MISMATCH') ?? false;
    });
    const job = await bench.job(id);
    expect(job.attemptsMade).toBe(0);
    expect(await job.isFailed()).toBe(false);
    await raiseCancel(bench, id);
    expect(await bench.failed(id)).toMatchObject({ end: 'cancelled' });
  });
});
