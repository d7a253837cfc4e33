/**
 * A batch from submit to results whose producer, ranks and aggregator have the rights of infra/policies and no others,
 * and reach a Redis Cluster of three nodes over TLS. Their logs and traces are looked at too.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Cluster } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadConfig, toEnvironment } from '../../src/platform/config.js';
import { cohortKeys, objectKeys, QUEUE_PREFIX, scheduleKeys } from '../../src/platform/keys.js';
import { checkRedis, createRedis } from '../../src/platform/redis.js';
import { ObjectStore } from '../../src/platform/object-store.js';
import { Bench, until } from '../chaos/cohort-support.js';
import { writeRandomModel } from '../chaos/random-model.js';
import { watch } from '../support/leaks.js';
import { OtlpCollector } from '../support/otlp-collector.js';
import { startRedisCluster, type RedisCluster } from '../support/redis-cluster.js';
import { endProcess, startS3, tempDir, trackLeaks, type S3Service } from '../support/services.js';

const roles = ['producer', 'rank', 'aggregator', 'scheduler'] as const;
type Role = (typeof roles)[number];
const keys = new Map(
  roles.map((role) => [
    role,
    { accessKeyId: `key-of-${role}`, secretAccessKey: randomBytes(20).toString('hex') },
  ]),
);
let folder: string;
let redis: RedisCluster;
let s3: S3Service;
let collector: OtlpCollector;
const stores: ObjectStore[] = [];

beforeAll(async () => {
  folder = await tempDir('longhaul-rights-');
  const limited = roles.map((role) => ({
    ...keyOf(role),
    policy: JSON.parse(readFileSync(resolve(`infra/policies/s3-${role}.json`), 'utf8')) as unknown,
  }));
  // The policies name the bucket.
  [redis, s3] = await Promise.all([startRedisCluster(folder), startS3({ bucket: 'longhaul', limited })]);
  collector = await new OtlpCollector().start();
  const lines = readFileSync(resolve('infra/policies/redis.acl'), 'utf8').trim().split('\n');
  await onEachNode(async (administrator) => {
    for (const line of lines) {
      const [, name = '', ...rules] = line.split(' ');
      // The one without a name of its own is of this test's calls.
      if (name === 'default') continue;
      const own = rules.map((rule) => (rule.startsWith('>') ? `>${passwordOf(name)}` : rule));
      await administrator.call('ACL', 'SETUSER', name, ...own);
    }
  });
});
afterAll(async () => {
  for (const store of stores) store.close();
  await Promise.all([redis.stop(), s3.stop(), collector.stop()]);
  rmSync(folder, { recursive: true, force: true });
});
trackLeaks();

function keyOf(role: Role) {
  const key = keys.get(role);
  if (key === undefined) throw new Error(`no key of ${role}`);
  return key;
}

/** Of a user of Redis. */
const passwordOf = (name: string) => keys.get(name as Role)?.secretAccessKey ?? `password-of-${name}`;

const userOf = (name: string) => `${name}:${passwordOf(name)}`;

const redisUrlOf = (name: string) =>
  `rediss+cluster://${userOf(name)}@${redis.tlsPorts.map((port) => `127.0.0.1:${port}`).join(',')}?ca=${redis.certificate}`;

function onEachNode<T>(use: (node: ReturnType<typeof createRedis>) => Promise<T>): Promise<T[]> {
  return Promise.all(
    redis.nodes.map(async ({ url }) => {
      const client = createRedis(url, 'command');
      try {
        return await use(client);
      } finally {
        client.disconnect();
      }
    }),
  );
}

const settingsOf = (role: Role) => ({
  ...s3.settings,
  redisUrl: redisUrlOf(role),
  s3AccessKeyId: keyOf(role).accessKeyId,
  s3SecretAccessKey: keyOf(role).secretAccessKey,
});

const tracesOf = () => ({ otlpEndpoint: collector.url, otlpHeaders: 'x-tenant=a%20b' });

function storeOf(role: Role): ObjectStore {
  const config = loadConfig({ flags: settingsOf(role), environment: {}, directory: '/nonexistent' });
  const store = new ObjectStore(config);
  stores.push(store);
  return store;
}

test(
  'each role does its work and needs no more rights; one trace tells of it; no log or trace has a document’s text',
  { timeout: 150_000 },
  async () => {
    const modelDir = writeRandomModel(join(folder, 'model'), 4);
    const start = (role: Role, ...args: string[]) => {
      const settings = { profile: 'fast', logLevel: 'info', modelDir, ranks: 2 } as const;
      const told = ['submit', 'aggregator'].includes(args[0] ?? '') ? tracesOf() : {};
      const environment = toEnvironment({ ...settings, ...settingsOf(role), ...told });
      return watch(
        spawn(process.execPath, [resolve('bin/longhaul.js'), ...args], {
          stdio: ['ignore', 'pipe', 'pipe'],
          env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...environment },
        }),
      );
    };
    const logs: string[] = [];
    const command = async (...args: string[]) => {
      const child = start('producer', ...args);
      let [out, err] = ['', ''];
      child.stdout?.on('data', (text: Buffer) => (out += text.toString()));
      child.stderr?.on('data', (text: Buffer) => (err += text.toString()));
      const [code] = (await once(child, 'close')) as [number | null];
      expect(code, err).toBe(0);
      logs.push(err);
      return out;
    };
    const file = join(folder, 'requests.jsonl');
    await writeFile(
      file,
      JSON.stringify({ custom_id: 'one', document: 'Zanzibar was rainy. '.repeat(50), question: 'What?' }) +
        '\n',
    );
    const bench = new Bench({ redis, s3, modelDir });
    const aggregator = start('aggregator', 'aggregator');
    aggregator.stderr?.on('data', (text: Buffer) => logs.push(text.toString()));
    const cohort = bench.cohort(2, 'limited', { ...settingsOf('rank'), ...tracesOf() });
    try {
      const { id } = JSON.parse(
        await command('submit', file, '--ranks', '2', '--method', 'full', '--json'),
      ) as { id: string };
      await until('the end of the batch', 90_000, () => bench.store.exists(objectKeys.success(id))).catch(
        (error: unknown) => {
          throw new Error(`${String(error)}\n${logs.join('')}\n${cohort.log()}`);
        },
      );
      logs.push(cohort.log());
      await checkTrace(id);
      checkLogs(logs.join('\n'), id);
      await command('results', id, '--out', join(folder, 'results'));
      expect(readFileSync(join(folder, 'results', 'output.jsonl'), 'utf8')).toContain('"custom_id":"one"');

      const inputs = new ObjectStore(
        loadConfig({ flags: s3.settings, environment: {}, directory: '/nonexistent' }),
      );
      stores.push(inputs);
      await inputs.create('inputs/today.txt', 'Zanzibar was dry. '.repeat(50));
      const prompt = join(folder, 'prompt.txt');
      await writeFile(prompt, 'How was it?');
      const clock = ['--cron', '0 6 1 1 *', '--input', 's3://longhaul/inputs/'];
      await command('schedule', 'add', 'nightly', '--prompt', prompt, ...clock);
      const run = (await command('schedule', 'run-now', 'nightly')).trim();
      const scheduler = start('scheduler', 'scheduler');
      let schedulerLog = '';
      scheduler.stderr?.on('data', (text: Buffer) => (schedulerLog += text.toString()));
      try {
        await until('the end of the run', 30_000, () =>
          bench.store.exists(scheduleKeys.run('nightly', run, 'end')),
        ).catch((error: unknown) => {
          throw new Error(`${String(error)}\n${schedulerLog}`);
        });
      } finally {
        await endProcess(scheduler);
      }
      logs.push(schedulerLog);
      const history = await command('schedule', 'history', 'nightly');
      expect(history).toContain('1 of 1 documents answered');
      await command('schedule', 'pause', 'nightly');
      await command('schedule', 'resume', 'nightly');
      await command('schedule', 'remove', 'nightly');
      // All of the queues lie on one node, all of a cohort on one, and nothing else is anywhere.
      const found = await onEachNode((node) => node.keys('*'));
      for (const tag of [`${QUEUE_PREFIX}:`, '{cohort:limited}:']) {
        expect(found.filter((names) => names.some((name) => name.startsWith(tag)))).toHaveLength(1);
      }
      expect(found.flat().filter((name) => !/^\{(longhaul|cohort:limited)\}:/.test(name))).toEqual([]);
      // The ranks log everything here.
      expect(logs.join('')).toContain('finished');
      expect(logs.join('')).not.toContain('Zanzibar');
      expect(collector.bodies.join('')).not.toContain('Zanzibar');
    } finally {
      await endProcess(aggregator);
      await bench.close();
    }
  },
);

/** Every line says whose it is, and of what: cohort, rank, generation; batch, item, epoch. */
function checkLogs(text: string, batch: string): void {
  const lines = text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => {
      // A name that is there twice would hide one of the two.
      const flat = line.replace(/(?<=:){[^{}]*}/g, 'null');
      const names = [...flat.matchAll(/[{,]"(\w+)":/g)].map(([, name]) => name);
      const values = JSON.parse(line) as Record<string, unknown>;
      expect(Object.keys(values).filter((name) => names.filter((each) => each === name).length > 1)).toEqual(
        [],
      );
      return values;
    });
  const own = { cohort: 'limited', rank: 0, generation: expect.stringMatching(/^1\.\w+$/) as string };
  const item = { batch, item: 0, epoch: 1 };
  const of = (msg: string) => lines.filter((line) => line['msg'] === msg);
  expect(of('claimed')).toMatchObject([{ ...own, ...item }]);
  expect(of('answered')).toMatchObject([{ ...own, ...item }]);
  expect(of('committed')).toMatchObject([{ ...item, cohort: 'limited', generation: 1, requests: 1 }]);
  expect(of('finished')).toMatchObject([{ batch, answered: 1 }]);
  expect(of('ranks connected')).toMatchObject([own, { ...own, rank: 1 }]);
  const running = of('state').filter(({ phase }) => phase === 'running');
  expect(running.map(({ rank }) => rank)).toEqual(expect.arrayContaining([0, 1]));
  for (const line of running) expect(line).toMatchObject({ ...own, ...item, rank: line['rank'] });
  const ranks = lines.filter(({ name }) => name === 'worker');
  for (const line of ranks)
    expect(line).toMatchObject({ cohort: 'limited', rank: expect.any(Number) as number });
}

/** One trace from the submit to the files of the batch, each step below the one that led to it. */
async function checkTrace(id: string): Promise<void> {
  await until('the end of the trace', 10_000, () =>
    Promise.resolve(
      collector.named('finalise').some(({ attributes }) => attributes['longhaul.batch.id'] === id),
    ),
  );
  const [submit] = collector.named('submit');
  expect(submit).toMatchObject({ service: 'longhaul-submit', parent: undefined });
  const own = collector.spans.filter(({ trace }) => trace === submit?.trace);
  const byId = new Map(own.map((span) => [span.id, span]));
  const pathOf = (span: (typeof own)[number] | undefined): string[] =>
    span === undefined
      ? []
      : [...pathOf(byId.get(span.parent ?? '')), `${span.service.slice(9)} ${span.name}`];
  const paths = own.map((span) => pathOf(span).join(' > '));
  const run = 'submit submit > submit enqueue > worker process documents';
  const model = 'worker chat model';
  const commit = 'submit submit > submit enqueue > aggregator process outcomes > aggregator commit';
  expect(paths).toEqual(
    expect.arrayContaining([
      `${run} > worker prepare`,
      `${run} > ${model} > worker prefill`,
      `${run} > ${model} > worker decode`,
      commit,
      `${commit} > aggregator add finalise.finalise > aggregator process finalise > aggregator finalise`,
    ]),
  );
  const named = (name: string) => own.filter((span) => span.name === name);
  expect(named('prefill').map(({ attributes }) => attributes['longhaul.rank'])).toEqual([0, 1]);
  expect(named('chat model')[0]?.attributes).toMatchObject({
    'gen_ai.operation.name': 'chat',
    'gen_ai.provider.name': 'longhaul',
    'gen_ai.request.model': 'model',
    'gen_ai.usage.output_tokens': expect.any(Number) as number,
    'longhaul.ranks': 2,
    'longhaul.method': 'full',
  });
  expect(collector.headers[0]).toMatchObject({ 'content-type': 'application/json', 'x-tenant': 'a b' });
  // What BullMQ does while nothing is under way is not told.
  expect(collector.spans.filter(({ name }) => /getNextJob|[sS]talled|^close/.test(name))).toEqual([]);
}

test('no role can do what is another’s', async () => {
  const [producer, rank, aggregator, scheduler] = roles.map(storeOf) as [
    ObjectStore,
    ObjectStore,
    ObjectStore,
    ObjectStore,
  ];
  const refused = (work: Promise<unknown>) =>
    expect(work).rejects.toThrow(/S3 refused to .* check credentials and policy/);
  const outcome = objectKeys.outcome('batch', 0, 'one');
  for (const key of [outcome, objectKeys.item('batch', 0), objectKeys.document('0'.repeat(64))]) {
    await refused(rank.create(key, 'x'));
  }
  await refused(rank.get(outcome));
  await refused(rank.get(objectKeys.manifest('batch')));
  await refused(producer.create(outcome, 'x'));
  await refused(producer.create(objectKeys.success('batch'), 'x'));
  await refused(producer.create('elsewhere', 'x'));
  await refused(aggregator.create(objectKeys.cancel('batch'), 'x'));
  await refused(aggregator.delete(objectKeys.manifest('batch')));
  await refused(aggregator.delete(outcome));
  await refused(aggregator.get(scheduleKeys.schedule('nightly')));
  await refused(producer.create(scheduleKeys.run('nightly', 'now', 'end'), 'x'));
  await refused(scheduler.create(outcome, 'x'));
  await refused(scheduler.create(scheduleKeys.schedule('nightly'), 'x'));
  await refused(scheduler.create('inputs/today.txt', 'x'));
  await refused(scheduler.delete(scheduleKeys.schedule('nightly')));
});

test('Redis shows a certificate that must be trusted, and speaks nothing else on that port', async () => {
  const address = `${userOf('rank')}@127.0.0.1:${redis.tlsPorts[0]}`;
  for (const url of [`rediss://${address}`, `redis://${address}?ca=${redis.certificate}`]) {
    const client = createRedis(url, 'command', { retryStrategy: () => null, maxRetriesPerRequest: 0 });
    try {
      await expect(client.ping(), url.slice(0, 8)).rejects.toThrow();
    } finally {
      client.disconnect();
    }
  }
});

test('a node that would evict is refused, whichever it is', async () => {
  const last = createRedis(redis.nodes[2]!.url, 'command');
  const client = createRedis(redisUrlOf('producer'), 'command');
  try {
    await last.config('SET', 'maxmemory-policy', 'allkeys-lru');
    await expect(checkRedis(client, redisUrlOf('producer'))).rejects.toThrow(
      /node 127\.0\.0\.1:\d+, has maxmemory-policy allkeys-lru/,
    );
    await last.config('SET', 'maxmemory-policy', 'noeviction');
    expect(await checkRedis(client, redisUrlOf('producer'))).toMatchObject({ aof: true });
  } finally {
    last.disconnect();
    client.disconnect();
  }
});

test('a call fails in time when no node of a cluster can be reached', async () => {
  const nowhere = 'redis+cluster://127.0.0.1:1,127.0.0.1:2';
  const client = createRedis(nowhere, 'command', { commandTimeout: 300 });
  try {
    expect(client).toBeInstanceOf(Cluster);
    await expect(client.get('{longhaul}:x')).rejects.toThrow('Command timed out');
  } finally {
    client.disconnect();
  }
});

test('the scaler counts what waits and the metrics’ user reads INFO, and neither can do more', async () => {
  const scaler = createRedis(redisUrlOf('scaler'), 'command', { enableReadyCheck: false });
  const metrics = createRedis(redisUrlOf('metrics'), 'command');
  const prioritized = `${QUEUE_PREFIX}:documents:prioritized`;
  try {
    // As KEDA 2.16 asks for a length.
    const length = `
      local listType = redis.call('type', KEYS[1]).ok
      local cmd = { zset = 'zcard', set = 'scard', list = 'llen', hash = 'hlen', none = 'llen' }
      return redis.call(cmd[listType], KEYS[1])`;
    expect(await scaler.eval(length, 1, prioritized)).toBe(0);
    expect(await metrics.info('memory')).toContain('used_memory');
    for (const call of [
      () => scaler.zadd(prioritized, 1, 'x'),
      () => scaler.eval("return redis.call('DEL', KEYS[1])", 1, prioritized),
      () => scaler.llen(`${QUEUE_PREFIX}:outcomes:wait`),
      () => scaler.hgetall(`${QUEUE_PREFIX}:documents:meta`),
      () => metrics.zcard(prioritized),
      () => metrics.config('GET', '*'),
    ]) {
      await expect(call()).rejects.toThrow(/NOPERM|can't run this command|permission/i);
    }
  } finally {
    scaler.disconnect();
    metrics.disconnect();
  }
});

test('no role can do in Redis what its work does not ask for', async () => {
  for (const role of roles) {
    const client = createRedis(redisUrlOf(role), 'command', { retryStrategy: () => null });
    try {
      for (const [command, ...args] of [
        ['FLUSHALL'],
        ['KEYS', '*'],
        ['CONFIG', 'SET', 'maxmemory', '1'],
        ['SET', 'elsewhere', '1'],
        ['ACL', 'LIST'],
        ['REPLICAOF', 'NO', 'ONE'],
        ['CLUSTER', 'RESET'],
      ] as const) {
        await expect(client.call(command, ...args), `${role}: ${command}`).rejects.toThrow(/NOPERM/);
      }
      const cohort = client.set(cohortKeys('main').current, '1');
      if (role === 'rank') expect(await cohort).toBe('OK');
      else await expect(cohort, role).rejects.toThrow(/NOPERM/);
    } finally {
      client.disconnect();
    }
  }
});
