/**
 * A batch from submit to results whose producer, ranks and aggregator have the rights of infra/policies and no others,
 * and reach Redis over TLS.
 */
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadConfig, toEnvironment } from '../../src/platform/config.js';
import { cohortKeys, objectKeys, scheduleKeys } from '../../src/platform/keys.js';
import { createRedis } from '../../src/platform/redis.js';
import { ObjectStore } from '../../src/platform/object-store.js';
import { Bench, until } from '../chaos/cohort-support.js';
import { writeRandomModel } from '../chaos/random-model.js';
import { watch } from '../support/leaks.js';
import {
  endProcess,
  freePort,
  startRedis,
  startS3,
  tempDir,
  trackLeaks,
  type RedisService,
  type S3Service,
} from '../support/services.js';

const roles = ['producer', 'rank', 'aggregator', 'scheduler'] as const;
type Role = (typeof roles)[number];
const keys = new Map(
  roles.map((role) => [
    role,
    { accessKeyId: `key-of-${role}`, secretAccessKey: randomBytes(20).toString('hex') },
  ]),
);
let folder: string;
let redis: RedisService;
let tlsPort: number;
let s3: S3Service;
let administrator: Redis;
const stores: ObjectStore[] = [];

beforeAll(async () => {
  folder = await tempDir('longhaul-rights-');
  const limited = roles.map((role) => ({
    ...keyOf(role),
    policy: JSON.parse(readFileSync(resolve(`infra/policies/s3-${role}.json`), 'utf8')) as unknown,
  }));
  // The policies name the bucket.
  tlsPort = await freePort();
  [redis, s3] = await Promise.all([
    startRedis({ more: tlsArguments() }),
    startS3({ bucket: 'longhaul', limited }),
  ]);
  administrator = createRedis(redis.url, 'command');
  for (const line of readFileSync(resolve('infra/policies/redis.acl'), 'utf8').split('\n')) {
    const [, name, ...rules] = line.split(' ');
    const role = roles.find((each) => each === name);
    if (role === undefined) continue;
    const own = rules.map((rule) => (rule.startsWith('>') ? `>${keyOf(role).secretAccessKey}` : rule));
    await administrator.call('ACL', 'SETUSER', role, ...own);
  }
});
afterAll(async () => {
  for (const store of stores) store.close();
  administrator.disconnect();
  await Promise.all([redis.stop(), s3.stop()]);
  rmSync(folder, { recursive: true, force: true });
});
trackLeaks();

function keyOf(role: Role) {
  const key = keys.get(role);
  if (key === undefined) throw new Error(`no key of ${role}`);
  return key;
}

const certificate = () => join(folder, 'redis.pem');

/** A certificate of our own making for 127.0.0.1, and a port on which Redis shows it. */
function tlsArguments(): string[] {
  const key = join(folder, 'redis.key');
  const subject = ['-subj', '/CN=longhaul-test', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const files = ['-nodes', '-keyout', key, '-out', certificate(), '-days', '2'];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', ...files, ...subject], { stdio: 'pipe' });
  return Object.entries({
    'tls-port': String(tlsPort),
    'tls-cert-file': certificate(),
    'tls-key-file': key,
    'tls-ca-cert-file': certificate(),
    'tls-auth-clients': 'no',
  }).flatMap(([name, value]) => [`--${name}`, value]);
}

const redisUrlOf = (role: Role) =>
  `rediss://${role}:${keyOf(role).secretAccessKey}@127.0.0.1:${tlsPort}?ca=${certificate()}`;

const settingsOf = (role: Role) => ({
  ...s3.settings,
  redisUrl: redisUrlOf(role),
  s3AccessKeyId: keyOf(role).accessKeyId,
  s3SecretAccessKey: keyOf(role).secretAccessKey,
});

function storeOf(role: Role): ObjectStore {
  const config = loadConfig({ flags: settingsOf(role), environment: {}, directory: '/nonexistent' });
  const store = new ObjectStore(config);
  stores.push(store);
  return store;
}

test(
  'each role does its work and needs no more rights; no log has a document’s text',
  { timeout: 150_000 },
  async () => {
    const modelDir = writeRandomModel(join(folder, 'model'), 4);
    const start = (role: Role, ...args: string[]) => {
      const settings = { profile: 'fast', logLevel: 'info', modelDir, ranks: 2 } as const;
      const environment = toEnvironment({ ...settings, ...settingsOf(role) });
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
    const bench = new Bench({ redis, s3, modelDir, close: () => Promise.resolve() });
    const aggregator = start('aggregator', 'aggregator');
    aggregator.stderr?.on('data', (text: Buffer) => logs.push(text.toString()));
    const cohort = bench.cohort(2, 'limited', settingsOf('rank'));
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
      // The ranks log everything here.
      expect(logs.join('')).toContain('finished');
      expect(logs.join('')).not.toContain('Zanzibar');
    } finally {
      await endProcess(aggregator);
      await bench.close();
    }
  },
);

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
  await refused(aggregator.create(objectKeys.manifest('batch'), 'x'));
  await refused(aggregator.create(objectKeys.document('0'.repeat(64)), 'x'));
  await refused(aggregator.get(objectKeys.document('0'.repeat(64))));
  await refused(aggregator.delete(outcome));
  await refused(aggregator.get(scheduleKeys.schedule('nightly')));
  await refused(producer.create(scheduleKeys.run('nightly', 'now', 'end'), 'x'));
  await refused(scheduler.create(outcome, 'x'));
  await refused(scheduler.create(scheduleKeys.schedule('nightly'), 'x'));
  await refused(scheduler.create('inputs/today.txt', 'x'));
  await refused(scheduler.delete(scheduleKeys.schedule('nightly')));
});

test('Redis shows a certificate that must be trusted, and speaks nothing else on that port', async () => {
  for (const url of [
    redisUrlOf('rank').replace(/\?.*/, ''),
    redisUrlOf('rank').replace('rediss:', 'redis:'),
  ]) {
    const client = createRedis(url, 'command', { retryStrategy: () => null, maxRetriesPerRequest: 0 });
    try {
      await expect(client.ping(), url.slice(0, 8)).rejects.toThrow();
    } finally {
      client.disconnect();
    }
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
