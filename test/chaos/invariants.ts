/** What must hold of a batch that has ended, whatever died on the way. Read from S3 and Redis, not from longhaul. */
import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import { expect } from 'vitest';
import { outcome, success } from '../../src/contracts/outcome.js';
import { objectKeys, redisKeys } from '../../src/platform/keys.js';
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
  await expectNothingQueued(redis, id);
}

/** No job, no counter: of all keys that name the batch only its record is left, and says that it is finished. */
async function expectNothingQueued(redis: Redis, id: string): Promise<void> {
  let left: string[] = [];
  const settled = async (): Promise<boolean> => {
    const keys = await redis.keys(`*${id}*`);
    left = keys.filter((key) => key !== redisKeys.batch(id));
    if ((await redis.hexists(redisKeys.batch(id), 'completed_at')) === 0) left.push('a record that is open');
    return left.length === 0;
  };
  await until('nothing left in Redis', 8_000, settled).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${left.join(', ')}`);
  });
}
