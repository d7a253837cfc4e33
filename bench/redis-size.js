/**
 * What batches take of a real redis-server, by the code that enqueues, answers and ends them. One JSON line for each
 * number of work items, then one with the lines fitted through them. Needs `make build`.
 *
 *   node bench/redis-size.js                          1,000, 10,000 and 100,000 work items in one batch
 *   node bench/redis-size.js --items 1000,1000000     takes some minutes and 2 GB of memory
 *
 * Bytes are of `used_memory`, as `INFO` tells it, above an empty server with the same clients. `waiting`: every item
 * has both of its jobs. `answered`: an item whose answer (`--answer` bytes of JSON) S3 does not have yet, above that.
 * `ended`: an item of a batch under way whose outcomes S3 has. `finished`: a whole batch that has ended.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Worker } from 'bullmq';

const dist = fileURLToPath(new URL('../dist', import.meta.url));
const { enqueueItems } = await import(join(dist, 'batch/enqueue.js'));
const { withQueues } = await import(join(dist, 'batch/queues.js'));
const { recordFinished, recordOutcomes, registerBatch } = await import(join(dist, 'batch/record.js'));
const { findRedisServer, pingRedis, redisArguments } = await import(join(dist, 'local/redis-server.js'));
const { QUEUE_PREFIX, QUEUES, redisKeys } = await import(join(dist, 'platform/keys.js'));
const { createRedis } = await import(join(dist, 'platform/redis.js'));

const { values } = parseArgs({
  options: {
    items: { type: 'string', default: '1000,10000,100000' },
    answers: { type: 'string', default: '1000' },
    answer: { type: 'string', default: '1500' },
    batches: { type: 'string', default: '10000' },
  },
});
const directory = await mkdtemp(join(tmpdir(), 'longhaul-redis-size-'));
const server = await startServer(directory);
const redis = createRedis(server.url, 'command', { commandTimeout: 600_000 });
try {
  const results = [];
  for (const items of values.items.split(',').map(Number)) {
    const result = await measureBatch(items);
    results.push(result);
    console.log(JSON.stringify(result));
  }
  console.log(
    JSON.stringify({
      waiting: fit(results.map(({ items, waiting_bytes }) => [items, waiting_bytes])),
      ended: fit(results.map(({ items, ended_bytes }) => [items, ended_bytes])),
      answered_bytes_per_item: await measureAnswers(Number(values.answers), Number(values.answer)),
      finished_bytes_per_batch: await measureFinished(Number(values.batches)),
      redis: /redis_version:(.*)/.exec(await redis.info())?.[1]?.trim(),
      machine: `${availableParallelism()} x ${cpus()[0]?.model}`,
      load: loadavg()[0],
    }),
  );
} finally {
  redis.disconnect();
  server.child.kill('SIGKILL');
  await once(server.child, 'exit');
  await rm(directory, { recursive: true, force: true });
}

function header(items) {
  const batch_id = `batch_${randomBytes(16).toString('hex')}`;
  const totals = { requests: items, items };
  return { batch_id, created_at: 1_800_000_000, expires_at: 1_800_086_400, input: 'requests.jsonl', totals };
}

async function measureBatch(items) {
  const batch = header(items);
  const numbers = Array.from({ length: items }, (_, item) => item);
  const empty = await emptied();
  const begun = performance.now();
  await registerBatch(redis, batch);
  await withQueues(redis, (queues) => enqueueItems(queues, batch, numbers, () => undefined));
  const enqueue_seconds = (performance.now() - begun) / 1000;
  const waiting_bytes = (await usedMemory()) - empty;
  const resident_bytes = await memory('used_memory_rss');
  const aof_bytes = await sizeOf(join(directory, 'appendonlydir'));

  const before = await emptied();
  await registerBatch(redis, batch);
  for (let start = 0; start < items; start += 1000) {
    const part = numbers.slice(start, start + 1000).map((ordinal) => ({ ordinal, status: 'answered' }));
    await recordOutcomes(redis, batch.batch_id, part);
  }
  const ended_bytes = (await usedMemory()) - before;
  return { items, waiting_bytes, resident_bytes, aof_bytes, enqueue_seconds, ended_bytes };
}

/** Items whose children are complete and whose parents wait, above the same items waiting. */
async function measureAnswers(items, size) {
  await emptied();
  const batch = header(items);
  const numbers = Array.from({ length: items }, (_, item) => item);
  await withQueues(redis, (queues) => enqueueItems(queues, batch, numbers, () => undefined));
  const connection = createRedis(server.url, 'bullmq');
  const text = 'x'.repeat(size - '{"answer":""}'.length);
  const worker = new Worker(QUEUES.documents, () => Promise.resolve({ answer: text }), {
    connection,
    prefix: QUEUE_PREFIX,
    autorun: false,
  });
  await worker.waitUntilReady();
  const waiting = await usedMemory();
  const running = worker.run();
  const ready = `${QUEUE_PREFIX}:${QUEUES.outcomes}:wait`;
  while ((await redis.llen(ready)) < items) await sleep(50);
  await worker.close();
  await running;
  // Events are kept up to a bound, whatever the number of items.
  for (const queue of Object.values(QUEUES)) await redis.del(`${QUEUE_PREFIX}:${queue}:events`);
  const bytes = ((await usedMemory()) - waiting) / items;
  connection.disconnect();
  return Math.round(bytes);
}

async function measureFinished(batches) {
  const empty = await emptied();
  for (let i = 0; i < batches; i++) {
    const batch = header(1000);
    await registerBatch(redis, batch);
    await redis.hset(redisKeys.batch(batch.batch_id), 'enqueued_at', 1_800_000_001);
    const counts = { answered: 1000, failed: 0, cancelled: 0, expired: 0, conflicts: 0 };
    await recordFinished(redis, batch.batch_id, counts, 1_800_000_100);
  }
  return Math.round(((await usedMemory()) - empty) / batches);
}

/** An empty server with its scripts in place. */
async function emptied() {
  await redis.flushall('SYNC');
  await redis.bgrewriteaof();
  while (/aof_rewrite_in_progress:1/.test(await redis.info('persistence'))) await sleep(50);
  await withQueues(redis, (queues) => enqueueItems(queues, header(1), [0], () => undefined));
  await redis.flushall('SYNC');
  return usedMemory();
}

function usedMemory() {
  return memory('used_memory');
}

async function memory(field) {
  return Number(new RegExp(`^${field}:(\\d+)`, 'm').exec(await redis.info('memory'))?.[1]);
}

async function sizeOf(folder) {
  let bytes = 0;
  for (const name of await readdir(folder)) bytes += (await stat(join(folder, name))).size;
  return bytes;
}

/** Least squares; of one point nothing can be said. */
function fit(points) {
  if (points.length < 2) return undefined;
  const mean = (numbers) => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
  const [x, y] = [mean(points.map((point) => point[0])), mean(points.map((point) => point[1]))];
  const above = points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0);
  const below = points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0);
  const perItem = above / below;
  return { bytes_per_item: Math.round(perItem), bytes_at_none: Math.round(y - perItem * x) };
}

async function startServer(dir) {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address();
  listener.close();
  const child = spawn(await findRedisServer(), redisArguments({ port, dir }), { stdio: 'ignore' });
  for (let i = 0; !(await pingRedis(port)); i++) {
    if (i > 200) throw new Error('redis-server did not start');
    await sleep(50);
  }
  return { child, url: `redis://127.0.0.1:${port}` };
}
