/** 10,000 batches and 100 ranks: what the server holds and what the page draws stay quick. */
import { readdirSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Redis } from 'ioredis';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RankReport } from '../../src/contracts/cohort.js';
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

/** The longest time for which the page drew nothing while `ms` went by. */
const longestPause = (page: Page, ms: number): Promise<number> =>
  page.evaluate<number>(`new Promise((done) => {
    const end = performance.now() + ${ms};
    let last = performance.now(), longest = 0;
    const frame = (now) => {
      longest = Math.max(longest, now - last);
      last = now;
      if (now < end) requestAnimationFrame(frame); else done(longest);
    };
    requestAnimationFrame(frame);
  })`);

async function timed(what: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await what();
  return performance.now() - begun;
}

test('10,000 batches and 100 ranks stay smooth, at two messages a second', async () => {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  try {
    const ranks = page.getByRole('list', { name: 'ranks of west' }).getByRole('listitem');
    expect(
      await timed(async () => {
        await page.goto(dashboard.url);
        await ranks
          .nth(RANKS - 1)
          .getByText('prefill')
          .waitFor();
      }),
    ).toBeLessThan(10_000);
    expect(await longestPause(page, 3000)).toBeLessThan(1000);
    await expectAccessible(page, 'overview of 100 ranks');

    await page.goto(`${dashboard.url}/batches`);
    await page.getByText('1–50 of 10,000 batches').waitFor();
    expect(
      await timed(async () => {
        await page.getByRole('button', { name: 'Next' }).click();
        await page.getByText('51–100 of 10,000 batches').waitFor();
      }),
    ).toBeLessThan(3000);
    expect(await page.getByRole('row').count()).toBe(51);
    expect(
      await timed(async () => {
        await page.getByRole('searchbox').fill('input 4711');
        await page.getByText('1–1 of 1 batches').waitFor();
      }),
    ).toBeLessThan(3000);
    await page.getByRole('searchbox').fill('');
    await page.getByRole('combobox', { name: 'State' }).selectOption('unfinished');
    await page.getByText(`1–50 of ${OPEN} batches`).waitFor();
    // A row that is shown goes on by itself.
    const newest = `batch_${String(BATCHES - 1).padStart(32, '0')}`;
    await redis.hset(redisKeys.batch(newest), 'answered', 97);
    await page.getByText('97/100').waitFor({ timeout: 5000 });
    expect(await longestPause(page, 2000)).toBeLessThan(1000);
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
    signal: AbortSignal.any([stop.signal, AbortSignal.timeout(30_000)]),
  });
  const messages: { at: number; bytes: number; keys: string[] }[] = [];
  const told = (): string[] => messages.flatMap(({ keys }) => keys);
  const ranksTold = (): Set<string> => new Set(told().filter((key) => key.startsWith('rank:')));
  let buffered = '';
  /** When everything had been said. A busy machine says it later; the rate is counted from then on. */
  let whole: number | undefined;
  const decoder = new TextDecoder();
  try {
    for await (const chunk of response.body ?? []) {
      buffered += decoder.decode(chunk as Uint8Array, { stream: true });
      for (let end = buffered.indexOf('\n\n'); end >= 0; end = buffered.indexOf('\n\n')) {
        const text = buffered.slice(0, end);
        buffered = buffered.slice(end + 2);
        const { patch } = JSON.parse(text.replace(/^data: /, '')) as { patch: Record<string, unknown> };
        messages.push({ at: performance.now(), bytes: text.length, keys: Object.keys(patch) });
      }
      if (
        whole === undefined &&
        told().includes('cohort:east') &&
        ranksTold().size === COHORTS.length * RANKS
      ) {
        whole = performance.now();
        setTimeout(() => {
          stop.abort();
        }, 2500);
      }
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  }
  expect(ranksTold().size).toBe(COHORTS.length * RANKS);
  expect(told().filter((key) => key === 'queue')).toHaveLength(1);
  const later = messages.filter(({ at }) => at > (whole ?? 0));
  expect(later.length).toBeGreaterThan(0);
  // One each half second; one more may have been on its way.
  expect(later.length).toBeLessThanOrEqual(6);
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
