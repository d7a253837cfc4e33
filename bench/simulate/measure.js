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
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { decodeOutcome } from '../../dist/batch/outcomes.js';
import { simulate } from './simulate.js';
import { machine, until, withStack } from './stack.js';

const { values } = parseArgs({
  options: {
    documents: { type: 'string', default: '20' },
    short: { type: 'string', default: '1500' },
    long: { type: 'string', default: '3000' },
    cohorts: { type: 'string', default: '1,2' },
    out: { type: 'string' },
  },
});
await withStack(main);
process.exit();

async function main(stack) {
  const first = await cohort(stack, 'first');

  const calibration = await batch(stack, 'calibration', Math.max(6, Number(values.documents) / 2));
  const perItem = {
    claimSeconds: calibration.claimSeconds,
    redisSeconds: calibration.redisCpu / calibration.items.length,
    aggregatorSeconds: calibration.aggregatorCpu / calibration.items.length,
    redisCommands: calibration.redisCommands / calibration.items.length,
  };
  const lines = [{ what: 'per item', ...perItem, ...machine() }];
  const running = [first];
  for (const count of values.cohorts.split(',').map(Number)) {
    while (running.length < count) running.push(await cohort(stack, `cohort-${running.length}`));
    const real = await batch(stack, `batch-${count}`, Number(values.documents));
    const predicted = predict(real, perItem, count);
    lines.push({
      what: 'batch',
      cohorts: count,
      documents: real.items.length,
      real_seconds: real.seconds,
      simulated_seconds: predicted.seconds,
      ratio: predicted.seconds / real.seconds,
      cohorts_busy: predicted.utilisation.cohorts,
      load: machine().load,
    });
  }
  const text = lines.map((line) => JSON.stringify(line)).join('\n') + '\n';
  process.stdout.write(text);
  if (values.out !== undefined) await writeFile(values.out, text);
  stack.close();
}

async function cohort({ start, client, keys }, name) {
  const child = start('worker', '--cohort', name, '--rank', '0', '--ranks', '1', '--backend', 'cpu');
  const { state } = keys.cohortKeys(name);
  await until(`cohort ${name}`, async () => (await client.hget(state, 'state')) === 'READY');
  return child;
}

/** One batch of documents of two lengths in turns, from its first document in the queue to its last in S3. */
async function batch(stack, name, documents) {
  const { client, keys, directory, store, start, used } = stack;
  const sizes = [Number(values.short), Number(values.long)];
  const file = join(directory, `${name}.jsonl`);
  const lines = Array.from({ length: documents }, (_, index) => ({
    custom_id: `${name}-${index}`,
    document: `${name} ${index}. ` + 'It rained in Zanzibar today. '.repeat(sizes[index % 2] / 7),
    question: 'Where did it rain?',
    max_tokens: 16,
  }));
  await writeFile(file, lines.map((line) => JSON.stringify(line)).join('\n') + '\n');
  const before = await used();
  const submit = start('submit', file, '--ranks', '1', '--method', 'full', '--json');
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
    submit.printed.endsWith('}\n') ? JSON.parse(submit.printed).id : undefined,
  );
  await until('the last answer', async () => {
    const answered = await client.hlen(keys.redisKeys.batchOutcomes(id));
    const state = await client.hget(keys.redisKeys.batch(id), 'answered');
    return answered === documents || Number(state) === documents;
  });
  const seconds = (performance.now() - begun) / 1000;
  const after = await used();
  const items = await Promise.all(
    lines.map(async ({ custom_id }, ordinal) => {
      const bytes = await store.get(keys.objectKeys.outcome(id, ordinal, custom_id));
      const { execution, usage } = decodeOutcome(bytes, id, ordinal);
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
