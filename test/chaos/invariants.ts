/** What must hold of a batch that has ended, whatever died on the way. Read from S3 and Redis, not from longhaul. */
import { createHash } from 'node:crypto';
import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { expect } from 'vitest';
import { queueOptions } from '../../src/batch/queues.js';
import { outcome, success } from '../../src/contracts/outcome.js';
import { objectKeys, QUEUES, redisKeys } from '../../src/platform/keys.js';
import type { ObjectStore } from '../../src/platform/object-store.js';
import { until } from './cohort-support.js';

export interface Expected {
  custom_id: string;
  /** The texts of an undisturbed run. */
  answers: string[];
}

const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '');

/** Every request answered once and right, in the order of the input; counts and digests that fit; nothing left in Redis. */
export async function expectAnswered(
  { store, redis }: { store: ObjectStore; redis: Redis },
  id: string,
  expected: Expected[],
): Promise<void> {
  const end = success.parse(JSON.parse((await store.get(objectKeys.success(id))).toString()));
  const total = expected.length;
  expect(end.counts).toEqual({ total, answered: total, failed: 0, cancelled: 0, expired: 0 });

  const outcomes = [];
  for await (const key of store.list(objectKeys.outcomes(id))) {
    outcomes.push(outcome.parse(JSON.parse((await store.get(key)).toString())));
  }
  const found = outcomes
    .sort((a, b) => a.ordinal - b.ordinal)
    .map(({ custom_id, answers }) => ({ custom_id, answers: answers.map(({ text }) => text) }));
  expect(found).toEqual(expected);

  for (const [key, file] of [
    [objectKeys.output(id), end.files.output],
    [objectKeys.error(id), end.files.error],
  ] as const) {
    const bytes = await store.get(key);
    expect({ key, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') }).toEqual(
      file,
    );
  }
  const output = lines((await store.get(objectKeys.output(id))).toString());
  const written = output.map(
    (line) => JSON.parse(line) as { custom_id: string; answers: { text: string }[] },
  );
  expect(
    written.map(({ custom_id, answers }) => ({ custom_id, answers: answers.map(({ text }) => text) })),
  ).toEqual(expected);
  expect(lines((await store.get(objectKeys.error(id))).toString())).toEqual([]);
  await expectNothingQueued(redis, id, total);
}

/** No job of the batch in any state of any queue, no key of an item, and the batch on record as finished. */
async function expectNothingQueued(redis: Redis, id: string, items: number): Promise<void> {
  const queues = Object.values(QUEUES).map((name) => new Queue(name, queueOptions(redis)));
  for (const queue of queues) queue.on('error', () => undefined);
  try {
    let left: string[] = [];
    const settled = async (): Promise<boolean> => {
      const jobs = await Promise.all(queues.map((queue) => queue.getJobs()));
      left = jobs.flat().flatMap((job) => {
        // A job may go between the list and its reading.
        const of = (job as typeof job | undefined)?.data as { batch_id?: string } | undefined;
        return of?.batch_id === id ? [`${job.queueName} ${job.id}`] : [];
      });
      for (let item = 0; item < items; item++) {
        if ((await redis.exists(redisKeys.item(id, item))) === 1) left.push(redisKeys.item(id, item));
      }
      const record = await redis.hgetall(redisKeys.batch(id));
      if (record['completed_at'] === undefined) left.push(`the record ${JSON.stringify(record)}`);
      return left.length === 0;
    };
    await until('nothing left in Redis', 8_000, settled).catch((error: unknown) => {
      throw new Error(`${String(error)}: ${left.join(', ')}`);
    });
  } finally {
    await Promise.all(queues.map((queue) => queue.close()));
  }
}
