/**
 * What a document costs Redis, an aggregator and a submit in processor time, and S3 in calls, without the time of cohorts: a
 * real submit, a real aggregator, and in the place of leaders a worker that reads each item and answers at once.
 *
 *   node bench/simulate/commits.js [--documents 2000] [--out FILE]
 *
 * Prints one JSON line. Heartbeats of ranks are measured apart, over some idle seconds.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Worker } from 'bullmq';
import { timingProfiles } from '../../dist/platform/timings.js';
import { machine, until, withStack } from './stack.js';

const { values } = parseArgs({
  options: { documents: { type: 'string', default: '2000' }, out: { type: 'string' } },
});
const documents = Number(values.documents);
const IDLE_MS = 10_000;
const RANKS = 2;

await withStack(main);
process.exit();

async function main(stack) {
  const beats = await heartbeats(stack);
  const { directory, start, used, client, keys, aggregatorMetrics } = stack;
  const file = join(directory, 'requests.jsonl');
  const lines = Array.from({ length: documents }, (_, index) => ({
    custom_id: `request-${index}`,
    document: `Number ${index}. ` + 'It rained in Zanzibar today. '.repeat(20),
    question: 'Where did it rain?',
  }));
  await writeFile(file, lines.map((line) => JSON.stringify(line)).join('\n') + '\n');
  const idle = await used();
  const submit = start('submit', file, '--ranks', '1', '--method', 'full', '--json');
  const id = await until(
    'the submit',
    () => (submit.exitCode === 0 ? JSON.parse(submit.printed).id : undefined),
    50,
  );
  const submitted = await used();
  const begun = performance.now();
  const { worker, failure } = answer(stack);
  await until(
    'the last answer',
    async () => {
      if (failure.error !== undefined) throw failure.error;
      return Number(await client.hget(keys.redisKeys.batch(id), 'answered')) === documents;
    },
    200,
  );
  const seconds = (performance.now() - begun) / 1000;
  const ended = await used();
  const calls = [
    ...(await aggregatorMetrics()).matchAll(
      /^longhaul_s3_operation_duration_seconds_count\{operation="(\w+)",result="(\w+)"\} (\d+)/gm,
    ),
  ].map(([, operation, result, count]) => [`${operation} ${result}`, Number(count) / documents]);
  await worker.close();
  const line = JSON.stringify({
    what: 'commits',
    documents,
    submit_redis_seconds: (submitted.redis - idle.redis) / documents,
    run_redis_seconds: (ended.redis - submitted.redis) / documents,
    redis_commands: (ended.commands - idle.commands) / documents,
    aggregator_seconds: (ended.aggregator - submitted.aggregator) / documents,
    commits_per_second_here: documents / seconds,
    aggregator_s3_calls: Object.fromEntries(calls),
    ...beats,
    ...machine(),
  });
  console.log(line);
  if (values.out !== undefined) await writeFile(values.out, line + '\n');
  stack.close();
}

/** Processor seconds and commands of Redis for each second of a rank that waits, at the pace of the profile `normal`. */
async function heartbeats({ start, used, client, keys }) {
  await sleep(3000);
  const alone = await over(used);
  const ranks = Array.from({ length: RANKS }, (_, rank) =>
    start('worker', '--cohort', 'idle', '--rank', String(rank), '--ranks', String(RANKS), '--backend', 'cpu'),
  );
  const { state } = keys.cohortKeys('idle');
  await until('a cohort', async () => (await client.hget(state, 'state')) === 'READY');
  const both = await over(used);
  for (const rank of ranks) rank.kill('SIGTERM');
  await until('the end of the cohort', () => ranks.every(({ exitCode }) => exitCode !== null), 50);
  const slower = timingProfiles.normal.heartbeat / timingProfiles.fast.heartbeat;
  return {
    rank_redis_seconds: Math.max(0, both.redis - alone.redis) / RANKS / slower,
    rank_redis_commands: (both.commands - alone.commands) / RANKS / slower,
  };
}

async function over(used) {
  const before = await used();
  await sleep(IDLE_MS);
  const after = await used();
  const each = (name) => (after[name] - before[name]) / (IDLE_MS / 1000);
  return { redis: each('redis'), commands: each('commands') };
}

function answer({ createRedis, environment, store, keys }) {
  const { lock, stalled } = timingProfiles.fast;
  const connection = createRedis(environment.LONGHAUL_REDIS_URL, 'bullmq');
  const worker = new Worker(
    keys.QUEUES.documents,
    async ({ data }) => {
      const bytes = await store.get(keys.objectKeys.item(data.batch_id, data.item));
      return resultOf(JSON.parse(bytes.toString('utf8')));
    },
    {
      connection,
      prefix: keys.QUEUE_PREFIX,
      concurrency: 16,
      lockDuration: lock,
      stalledInterval: stalled,
      maxStalledCount: 1000,
    },
  );
  worker.on('error', () => undefined);
  const failure = { error: undefined };
  worker.on('failed', (_job, error) => (failure.error ??= error));
  return { worker, failure };
}

function resultOf({ requests, document }) {
  return {
    execution: {
      cohort: 'bench',
      generation: 1,
      epoch: 1,
      method: 'full',
      ring_layout: null,
      ranks: 1,
      blocks: [document.tokens],
      anchor: 0,
      passing: 0,
      select: null,
      backend: 'cpu',
      version: '0',
      prefill_seconds: 1,
      decode_seconds: 1,
    },
    requests: requests.map(({ ordinal, questions }) => ({
      ordinal,
      answers: questions.map(({ text }) => ({ question: text, text: 'Zanzibar', tokens: 2, finish: 'stop' })),
      usage: { document_tokens: document.tokens, query_tokens: 3, answer_tokens: 2 },
    })),
  };
}
