/**
 * Runs a small batch for real, simulates it, and prints both: how far the simulation is to be believed. A redis-server, the
 * local S3 server, an aggregator and cohorts of one CPU rank on this machine; the demo model, documents of two lengths.
 *
 *   node bench/simulate/measure.js [--documents 20] [--short 1500] [--long 3000] [--cohorts 1,2] [--out FILE]
 *
 * One cohort answers a first batch: what a document costs beside its prefill and decode, and what its way through Redis and
 * an aggregator costs in processor time, are taken from it. Prefill and decode are those of each batch itself, as its
 * outcomes tell them, because a machine with other work is not as fast from one minute to the next.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { cpuSeconds, dist, startRedis, startS3 } from '../services.js';
import { simulate } from './simulate.js';

const { values } = parseArgs({
  options: {
    documents: { type: 'string', default: '20' },
    short: { type: 'string', default: '1500' },
    long: { type: 'string', default: '3000' },
    cohorts: { type: 'string', default: '1,2' },
    out: { type: 'string' },
  },
});
const bin = join(dist, '../bin/longhaul.js');
const model = join(dist, '../models/demo');
const DEADLINE_MS = 300_000;

const directory = await mkdtemp(join(tmpdir(), 'longhaul-simulate-'));
const children = [];
try {
  await main();
} finally {
  for (const child of children) child.kill('SIGKILL');
  await rm(directory, { recursive: true, force: true, maxRetries: 5 });
}
process.exit();

async function main() {
  const redis = await startRedis(directory, children);
  const s3 = await startS3(directory, children);
  const environment = {
    ...process.env,
    LONGHAUL_REDIS_URL: `redis://127.0.0.1:${redis.port}`,
    LONGHAUL_MODEL_DIR: model,
    LONGHAUL_PROFILE: 'fast',
    LONGHAUL_LOG_LEVEL: 'error',
    ...s3.environment,
    AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true',
  };
  const bench = { redis, environment, ...(await open(redis.port, s3.environment)) };
  bench.aggregator = start(bench, 'aggregator');
  const first = await cohort(bench, 'first');

  const calibration = await batch(bench, 'calibration', Math.max(6, Number(values.documents) / 2));
  const perItem = {
    claimSeconds: calibration.claimSeconds,
    redisSeconds: calibration.redisCpu / calibration.items.length,
    aggregatorSeconds: calibration.aggregatorCpu / calibration.items.length,
    redisCommands: calibration.redisCommands / calibration.items.length,
  };
  const machine = `${availableParallelism()} x ${cpus()[0]?.model}`;
  const date = new Date().toISOString().slice(0, 10);
  const lines = [{ what: 'per item', ...perItem, machine, load: loadavg()[0], date }];
  const running = [first];
  for (const count of values.cohorts.split(',').map(Number)) {
    while (running.length < count) running.push(await cohort(bench, `cohort-${running.length}`));
    const real = await batch(bench, `batch-${count}`, Number(values.documents));
    const predicted = predict(real, perItem, count);
    lines.push({
      what: 'batch',
      cohorts: count,
      documents: real.items.length,
      real_seconds: real.seconds,
      simulated_seconds: predicted.seconds,
      ratio: predicted.seconds / real.seconds,
      cohorts_busy: predicted.utilisation.cohorts,
      load: loadavg()[0],
    });
  }
  const text = lines.map((line) => JSON.stringify(line)).join('\n') + '\n';
  process.stdout.write(text);
  if (values.out !== undefined) await writeFile(values.out, text);
  bench.close();
}

/** Clients of our own beside the processes. */
async function open(port, settings) {
  const { loadConfig } = await import(join(dist, 'platform/config.js'));
  const { createRedis } = await import(join(dist, 'platform/redis.js'));
  const { ObjectStore } = await import(join(dist, 'platform/object-store.js'));
  const keys = await import(join(dist, 'platform/keys.js'));
  const { decodeOutcome } = await import(join(dist, 'batch/outcomes.js'));
  const client = createRedis(`redis://127.0.0.1:${port}`, 'command');
  const store = new ObjectStore(loadConfig({ environment: settings, directory }));
  const close = () => {
    client.disconnect();
    store.close();
  };
  return { client, store, keys, decodeOutcome, close };
}

function start({ environment }, ...args) {
  const child = spawn(process.execPath, [bin, ...args], {
    cwd: directory,
    env: environment,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  children.push(child);
  return child;
}

async function until(what, ask) {
  const end = performance.now() + DEADLINE_MS;
  for (;;) {
    const found = await ask();
    if (found) return found;
    if (performance.now() > end) throw new Error(`${what}: not within ${DEADLINE_MS / 1000} s`);
    await sleep(10);
  }
}

async function cohort(bench, name) {
  const child = start(bench, 'worker', '--cohort', name, '--rank', '0', '--ranks', '1', '--backend', 'cpu');
  const { state } = bench.keys.cohortKeys(name);
  await until(`cohort ${name}`, async () => (await bench.client.hget(state, 'state')) === 'READY');
  return child;
}

/** One batch of documents of two lengths in turns, from its first document in the queue to its last in S3. */
async function batch(bench, name, documents) {
  const { client, keys } = bench;
  const sizes = [Number(values.short), Number(values.long)];
  const file = join(directory, `${name}.jsonl`);
  const lines = Array.from({ length: documents }, (_, index) => ({
    custom_id: `${name}-${index}`,
    document: `${name} ${index}. ` + 'It rained in Zanzibar today. '.repeat(sizes[index % 2] / 7),
    question: 'Where did it rain?',
    max_tokens: 16,
  }));
  await writeFile(file, lines.map((line) => JSON.stringify(line)).join('\n') + '\n');
  const before = await used(bench);
  const args = ['submit', file, '--ranks', '1', '--method', 'full', '--json'];
  const child = spawn(process.execPath, [bin, ...args], {
    cwd: directory,
    env: bench.environment,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  let printed = '';
  child.stdout.on('data', (text) => (printed += text));
  const queue = `${keys.QUEUE_PREFIX}:${keys.QUEUES.documents}`;
  await until('a document in the queue', async () => {
    const [wait, prioritized, active] = await Promise.all([
      client.llen(`${queue}:wait`),
      client.zcard(`${queue}:prioritized`),
      client.llen(`${queue}:active`),
    ]);
    return wait + prioritized + active > 0;
  });
  const begun = performance.now();
  const id = await until('the id of the batch', () =>
    printed.endsWith('}\n') ? JSON.parse(printed).id : undefined,
  );
  await until('the last answer', async () => {
    const answered = await client.hlen(keys.redisKeys.batchOutcomes(id));
    const state = await client.hget(keys.redisKeys.batch(id), 'answered');
    return answered === documents || Number(state) === documents;
  });
  const seconds = (performance.now() - begun) / 1000;
  const after = await used(bench);
  const items = await Promise.all(
    lines.map(async ({ custom_id }, ordinal) => {
      const bytes = await bench.store.get(keys.objectKeys.outcome(id, ordinal, custom_id));
      const { execution, usage } = bench.decodeOutcome(bytes, id, ordinal);
      return {
        tokens: usage.document_tokens,
        prefillSeconds: execution.prefill_seconds,
        decodeSeconds: execution.decode_seconds,
      };
    }),
  );
  const busy = items.reduce(
    (sum, { prefillSeconds, decodeSeconds }) => sum + prefillSeconds + decodeSeconds,
    0,
  );
  return {
    seconds,
    items,
    claimSeconds: Math.max(0, (seconds - busy) / documents),
    redisCpu: after.redis - before.redis,
    redisCommands: after.commands - before.commands,
    aggregatorCpu: after.aggregator - before.aggregator,
  };
}

async function used({ client, redis, aggregator }) {
  const info = await client.info('stats');
  return {
    redis: await cpuSeconds(redis.child.pid),
    aggregator: await cpuSeconds(aggregator.pid),
    commands: Number(/total_commands_processed:(\d+)/.exec(info)?.[1]),
  };
}

function predict({ items }, { claimSeconds, redisSeconds, aggregatorSeconds }, count) {
  return simulate({
    seed: 1,
    documents: items.length,
    mix: items.map((item) => ({ ...item, weight: 1 })),
    order: 'given',
    arrivals: {},
    submit: {
      processes: 1,
      secondsPerDocument: 0,
      secondsPerToken: 0,
      redisSeconds: redisSeconds / 3,
      s3Requests: 0,
    },
    cohorts: {
      count,
      claimSeconds,
      formSeconds: 0,
      deathsPerHour: 0,
      detectSeconds: 0,
      redisSeconds: redisSeconds / 3,
      s3Requests: 0,
    },
    aggregators: {
      count: 1,
      secondsPerItem: aggregatorSeconds,
      redisSeconds: redisSeconds / 3,
      s3Requests: 0,
    },
    s3: { requestsPerSecond: 1000, latency: 0 },
    uncommittedBound: 1000,
  });
}
