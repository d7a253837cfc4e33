/** One rank's network to Redis is cut in the middle of an item, wholly or in one direction. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { documentOf, full, texts, useBench, type Bench } from './cohort-support.js';

const file = useBench(160);
let bench: Bench;
let proxy: TcpProxy;
beforeEach(async () => {
  ({ bench } = file);
  proxy = await startTcpProxy(Number(new URL(file.services.redis.url).port));
});
afterEach(async () => {
  await bench.stopCohorts();
  await proxy.close();
});

const item = { document: documentOf(2048, 5), questions: [[20, 31, 42, 53]], maxTokens: 200 };

it.each([
  { whom: 'the leader', rank: 0, direction: 'both' },
  { whom: 'a follower', rank: 1, direction: 'both' },
  { whom: 'the leader', rank: 0, direction: 'from' },
  { whom: 'a follower', rank: 1, direction: 'to' },
] as const)('$whom is cut off ($direction): the item is answered in another epoch', async (cell) => {
  const { rank, direction } = cell;
  const cohort = bench.cohort(2, 'c2', {}, (each) =>
    each === rank ? { redisUrl: `redis://127.0.0.1:${proxy.port}` } : {},
  );
  await bench.ready('c2');
  const undisturbed = texts(await bench.answered(await bench.submit(full(2), [item])));
  const id = await bench.submit(full(2), [item]);
  await bench.reached(id, 'decode');
  proxy.cut(direction);
  const { heartbeatExpiry, abort } = bench.config.timings;
  await new Promise((resolve) => setTimeout(resolve, heartbeatExpiry + abort));
  proxy.mend();
  const result = await bench.answered(id).catch((error: unknown) => {
    throw new Error(`${String(error)}\n${cohort.log()}`);
  });
  expect(texts(result)).toEqual(undisturbed);
  expect(result.execution.epoch).toBeGreaterThan(1);
  expect((await bench.job(id)).attemptsMade).toBe(1);
});
