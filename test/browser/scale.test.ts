/** 10,000 batches and 100 ranks: what the server holds and what the page draws stay quick. */
import { readdirSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Redis } from 'ioredis';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RankReport } from '../../src/contracts/cohort.js';
import type { LiveMessage } from '../../src/dashboard/api.js';
import { cohortKeys, redisKeys } from '../../src/platform/keys.js';
import { createRedis } from '../../src/platform/redis.js';
import { startRedis, startS3, type RedisService, type S3Service } from '../support/services.js';
import { expectAccessible, launch, overflow, startDashboard, type Dashboard } from './support.js';

const BATCHES = 10_000;
/** Of them under way, and so read again and again. */
const OPEN = 300;
const COHORTS = ['east', 'west'];
const RANKS = 50;
const BEAT_MS = 500;
/** Messages for which a stream is watched once it has said everything. */
const LATER = 6;

let redisService: RedisService;
let s3: S3Service;
let redis: Redis;
let dashboard: Dashboard;
let browser: Browser;
let beating: NodeJS.Timeout;
let beat = 0;

beforeAll(async () => {
  [redisService, s3] = await Promise.all([startRedis(), startS3()]);
  redis = createRedis(redisService.url, 'command');
  await seedBatches();
  await tellRanks();
  beating = setInterval(() => void tellRanks(), BEAT_MS);
  [dashboard, browser] = await Promise.all([startDashboard({ redis: redisService, s3 }), launch()]);
}, 60_000);

afterAll(async () => {
  clearInterval(beating);
  await browser?.close();
  await dashboard?.stop();
  redis?.disconnect();
  await Promise.all([redisService?.stop(), s3?.stop()]);
});

async function seedBatches(): Promise<void> {
  const now = Math.floor(Date.now() / 1000);
  for (let from = 0; from < BATCHES; from += 1000) {
    const pipeline = redis.pipeline();
    for (let i = from; i < from + 1000; i++) {
      const id = `batch_${String(i).padStart(32, '0')}`;
      const created = now - (BATCHES - i) * 10;
      const open = i >= BATCHES - OPEN;
      const counts = open ? { answered: i % 90 } : { answered: 95, failed: 5, completed_at: created + 60 };
      pipeline.hset(redisKeys.batch(id), {
        created_at: created,
        total: 100,
        input: `input ${i}.jsonl`,
        ...counts,
      });
      pipeline.zadd(redisKeys.batches(), created, id);
    }
    await pipeline.exec();
  }
}

async function tellRanks(): Promise<void> {
  beat += 1;
  const pipeline = redis.pipeline();
  for (const name of COHORTS) {
    const keys = cohortKeys(name);
    const state = {
      state: 'RUNNING',
      generation: '7.abc',
      ranks: RANKS,
      backend: 'cuda',
      model: '/models/llama',
    };
    pipeline.hset(keys.state, { ...state, updated_at: Date.now() });
    pipeline.zadd(redisKeys.cohorts(), Date.now(), name);
    for (let rank = 0; rank < RANKS; rank++) {
      const report: RankReport = {
        beat,
        at: Date.now(),
        phase: 'prefill',
        batch: `batch_${String(BATCHES - 1).padStart(32, '0')}`,
        item: 3,
        done: beat % 32,
        total: 32,
        usage: { device: 'H100', memory_used: 40 * 1024 ** 3, memory_total: 80 * 1024 ** 3, busy: 0.9 },
      };
      pipeline.set(keys.heartbeat('7.abc', rank), JSON.stringify(report));
    }
  }
  await pipeline.exec();
}

/**
 * What the page did in each of some seconds: how often it laid itself out, and for which share its main thread
 * computed. Neither grows where the machine is busy with something else, as the time between two frames does.
 */
async function workOf(page: Page, seconds: number): Promise<{ layouts: number; busy: number }> {
  const devtools = await page.context().newCDPSession(page);
  try {
    await devtools.send('Performance.enable', { timeDomain: 'threadTicks' });
    const read = async (): Promise<Map<string, number>> => {
      const { metrics } = await devtools.send('Performance.getMetrics');
      return new Map(metrics.map(({ name, value }) => [name, value]));
    };
    const before = await read();
    await page.waitForTimeout(1000 * seconds);
    const after = await read();
    const each = (name: string): number => {
      const [from, to] = [before.get(name), after.get(name)];
      if (from === undefined || to === undefined) throw new Error(`Chromium tells no ${name}`);
      return (to - from) / seconds;
    };
    return { layouts: each('LayoutCount'), busy: each('TaskDuration') };
  } finally {
    await devtools.detach();
  }
}

/** Two messages and one tick of the clocks a second; an animation would lay out the page with every frame. */
async function expectSmooth(page: Page): Promise<void> {
  const { layouts, busy } = await workOf(page, 3);
  expect(layouts).toBeGreaterThan(0);
  expect(layouts).toBeLessThan(12);
  expect(busy).toBeLessThan(0.5);
}

test('10,000 batches and 100 ranks stay smooth, at two messages a second', async () => {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  try {
    const ranks = page.getByRole('list', { name: 'ranks of west' }).getByRole('listitem');
    await page.goto(dashboard.url);
    await ranks
      .nth(RANKS - 1)
      .getByText('prefill')
      .waitFor();
    await expectSmooth(page);
    await expectAccessible(page, 'overview of 100 ranks');

    await page.goto(`${dashboard.url}/batches`);
    await page.getByText('1–50 of 10,000 batches').waitFor();
    await page.getByRole('button', { name: 'Next' }).click();
    await page.getByText('51–100 of 10,000 batches').waitFor();
    expect(await page.getByRole('row').count()).toBe(51);
    await page.getByRole('searchbox').fill('input 4711');
    await page.getByText('1–1 of 1 batches').waitFor();
    await page.getByRole('searchbox').fill('');
    await page.getByRole('combobox', { name: 'State' }).selectOption('unfinished');
    await page.getByText(`1–50 of ${OPEN} batches`).waitFor();
    // A row that is shown goes on by itself.
    const newest = `batch_${String(BATCHES - 1).padStart(32, '0')}`;
    await redis.hset(redisKeys.batch(newest), 'answered', 97);
    await page.getByText('97/100').waitFor();
    await expectSmooth(page);
    await page.setViewportSize({ width: 360, height: 740 });
    for (const path of ['/', '/batches', '/cohorts']) {
      await page.goto(dashboard.url + path);
      await page.getByRole('region').first().waitFor();
      expect(await overflow(page), path).toBeLessThanOrEqual(0);
    }
  } finally {
    await page.close();
  }
});

test('a stream says everything once, then what changed, and no more than two messages a second', async () => {
  const stop = new AbortController();
  const response = await fetch(`${dashboard.url}/api/live`, {
    signal: AbortSignal.any([stop.signal, AbortSignal.timeout(60_000)]),
  });
  const messages: { now: number; bytes: number; keys: string[] }[] = [];
  const told = (): string[] => messages.flatMap(({ keys }) => keys);
  const ranksTold = (): Set<string> => new Set(told().filter((key) => key.startsWith('rank:')));
  let buffered = '';
  /** How many messages it took to say everything. A busy machine says it later; the rate is counted from then on. */
  let whole: number | undefined;
  const decoder = new TextDecoder();
  try {
    for await (const chunk of response.body ?? []) {
      buffered += decoder.decode(chunk as Uint8Array, { stream: true });
      for (let end = buffered.indexOf('\n\n'); end >= 0; end = buffered.indexOf('\n\n')) {
        const text = buffered.slice(0, end);
        buffered = buffered.slice(end + 2);
        // A comment keeps a silent connection open.
        if (text.startsWith(':')) continue;
        const { now, patch } = JSON.parse(text.replace(/^data: /, '')) as LiveMessage;
        messages.push({ now, bytes: text.length, keys: Object.keys(patch) });
      }
      if (told().includes('cohort:east') && ranksTold().size === COHORTS.length * RANKS)
        whole ??= messages.length;
      if (whole !== undefined && messages.length >= whole + LATER) stop.abort();
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  }
  expect(ranksTold().size).toBe(COHORTS.length * RANKS);
  expect(told().filter((key) => key === 'queue')).toHaveLength(1);
  const later = messages.slice(whole);
  expect(later.length).toBeGreaterThanOrEqual(LATER);
  // By the clock of the server: a late timer may bring the next two closer together.
  const seconds = ((later.at(-1)?.now ?? 0) - (later[0]?.now ?? 0)) / 1000;
  expect(later.length - 1).toBeLessThanOrEqual(2 * seconds + 1);
  expect(Math.max(...messages.map(({ bytes }) => bytes))).toBeLessThan(64 * 1024);
});

test('all script of the page is below 200 KB', () => {
  const folder = resolve('dist/dashboard/web');
  const scripts = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.js'),
  );
  const bytes = scripts.reduce((sum, name) => sum + statSync(resolve(folder, name)).size, 0);
  expect(scripts.length).toBeGreaterThan(0);
  expect(bytes).toBeLessThan(200_000);
});

test('without a password only this machine’s own names are answered, and another address is refused', async () => {
  const { hostname, port } = new URL(dashboard.url);
  expect(hostname).toBe('127.0.0.1');
  const { request } = await import('node:http');
  const status = await new Promise<number | undefined>((done, fail) => {
    request(
      { host: hostname, port, path: '/api/batches', headers: { host: 'rebound.example' } },
      (response) => {
        response.resume();
        done(response.statusCode);
      },
    )
      .on('error', fail)
      .end();
  });
  expect(status).toBe(403);
  await expect(startDashboard({ redis: redisService, s3 }, { dashboardHost: '0.0.0.0' })).rejects.toThrow(
    /dashboardPasswordHash is not set/,
  );
});
