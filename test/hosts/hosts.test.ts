/**
 * Ranks on several hosts, over tcp, by the units of infra/systemd: one host keeps Redis, S3 and the aggregator, two have
 * the ranks of one cohort. One of these is cut off in the middle of a prefill.
 */
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChildProcess } from 'node:child_process';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { outcome } from '../../src/contracts/outcome.js';
import { findRedisServer, redisArguments } from '../../src/local/redis-server.js';
import { toEnvironment } from '../../src/platform/config.js';
import { objectKeys } from '../../src/platform/keys.js';
import { Bench, documentOf, full, until, type BenchServices } from '../chaos/cohort-support.js';
import { expectAnswered, type Expected } from '../chaos/invariants.js';
import { writeRandomModel } from '../chaos/random-model.js';
import { compiled } from '../support/compiled.js';
import { endProcess, tempDir } from '../support/services.js';
import { Network, type Host } from './network.js';
import { Unit } from './unit.js';

/** How deep the model is: a prefill of the document below takes some seconds. */
const LAYERS = 160;
const RANKS = 3;
const REDIS_PORT = 6379;
const item = { document: documentOf(6144, 5), questions: [[20, 31, 42, 53]], maxTokens: 8 };

let folder: string;
let network: Network;
let hosts: { store: Host; one: Host; two: Host };
let bench: Bench;
let units: Unit[] = [];
const services: ChildProcess[] = [];

beforeAll(async () => {
  network = new Network();
  hosts = { store: network.host('store'), one: network.host('one'), two: network.host('two') };
  folder = await tempDir('longhaul-hosts-');
  const modelDir = writeRandomModel(join(folder, 'model'), LAYERS);
  bench = new Bench({ ...(await startServices(hosts.store)), modelDir });
  const settings = {
    redisUrl: `redis://${hosts.store.address}:${REDIS_PORT}`,
    ...bench.services.s3.settings,
    profile: 'fast',
    backend: 'cpu',
    modelDir,
    ranks: RANKS,
    logLevel: 'debug',
  } as const;
  const environmentOf = ({ address }: Host) => toEnvironment({ ...settings, host: address });
  units = [
    new Unit(hosts.store, 'longhaul-aggregator.service', environmentOf(hosts.store)),
    new Unit(hosts.one, 'longhaul-rank@.service', environmentOf(hosts.one), '0'),
    new Unit(hosts.one, 'longhaul-rank@.service', environmentOf(hosts.one), '1'),
    new Unit(hosts.two, 'longhaul-rank@.service', environmentOf(hosts.two), '2'),
  ];
});
afterAll(async () => {
  await Promise.all(units.map((unit) => unit.stop()));
  await bench?.close();
  await Promise.all(services.map((service) => endProcess(service)));
  network?.close();
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});
afterEach(() => {
  hosts.one.plug();
  hosts.two.plug();
});
async function startServices(host: Host): Promise<Omit<BenchServices, 'modelDir'>> {
  const dir = join(folder, 'redis');
  mkdirSync(dir);
  const redis = host.spawn(
    await findRedisServer(),
    [...redisArguments({ port: REDIS_PORT, dir }), '--bind', host.address, '--protected-mode', 'no'],
    { stdio: 'ignore' },
  );
  const keys = ['--access-key', 'hosts-key', '--secret-key', 'hosts-secret'];
  const places = [
    '--dir',
    join(folder, 's3'),
    '--bucket',
    'longhaul-hosts',
    '--host',
    host.address,
    '--port',
    '9000',
  ];
  const s3 = host.spawn(process.execPath, [compiled('src/local/s3/main.ts'), ...places, ...keys], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  services.push(redis, s3);
  await once(createInterface({ input: s3.stdout as NodeJS.ReadableStream }), 'line');
  const settings = {
    s3Endpoint: `http://${host.address}:9000`,
    s3Bucket: 'longhaul-hosts',
    s3PathStyle: true,
    s3AccessKeyId: 'hosts-key',
    s3SecretAccessKey: 'hosts-secret',
  } as const;
  return { redis: { url: `redis://${host.address}:${REDIS_PORT}` }, s3: { settings } };
}

async function ended(id: string): Promise<void> {
  await until(`the end of batch ${id}`, 120_000, () => bench.store.exists(objectKeys.success(id))).catch(
    (error: unknown) => {
      throw new Error(`${String(error)}\n${units.map(({ log }) => log.slice(-20_000)).join('\n')}`);
    },
  );
}

/** As S3 has them. */
async function outcomesOf(id: string): Promise<Expected[]> {
  const found: Expected[] = [];
  for await (const key of bench.store.list(objectKeys.outcomes(id))) {
    const { custom_id, answers } = outcome.parse(JSON.parse((await bench.store.get(key)).toString()));
    found.push({ custom_id, answers: answers.map(({ text }) => text) });
  }
  return found;
}

test.each(['two', 'one'] as const)(
  'host %s is cut off in the middle of a prefill: the cohort is lost, forms anew, and each document has its answer once',
  async (name) => {
    await bench.ready('main', 60_000);
    const items = [item, { ...item, document: documentOf(600, 7) }];
    const undisturbed = await bench.submit(full(RANKS), items);
    await ended(undisturbed);
    const expected = await outcomesOf(undisturbed);
    expect(expected.map(({ answers }) => answers.length)).toEqual([1, 1]);

    const before = await bench.state('main');
    const exits = units.map((unit) => unit.exits.length);
    const id = await bench.submit(full(RANKS), items);
    await bench.reached(id, 'prefill');
    hosts[name].unplug();
    // Longer than any rank goes on without the others.
    const { heartbeatExpiry, abort } = bench.config.timings;
    await sleep(2 * heartbeatExpiry + abort);
    expect(await bench.store.exists(objectKeys.success(id))).toBe(false);
    hosts[name].plug();

    await ended(id);
    await expectAnswered(bench, id, expected);
    const after = await bench.state('main');
    expect(Number.parseInt(after['generation'] ?? '')).toBeGreaterThan(
      Number.parseInt(before['generation'] ?? ''),
    );
    // All ranks ended, each by itself.
    units.slice(1).forEach((unit, rank) => {
      expect(unit.exits.length, `rank ${rank}`).toBeGreaterThan(exits[rank + 1] ?? 0);
      expect(unit.exits, `rank ${rank}`).not.toContain(null);
    });
  },
);
