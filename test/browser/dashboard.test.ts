/** One test for each thing that can be seen or done, while a real cohort runs real batches. */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { recordDead } from '../../src/batch/dead.js';
import { readManifest } from '../../src/batch/manifest.js';
import { getStatus } from '../../src/batch/status.js';
import type { DocumentDetail, Session } from '../../src/dashboard/api.js';
import { objectKeys } from '../../src/platform/keys.js';
import { Bench, documentOf, full, openServices, until, type Services } from '../chaos/cohort-support.js';
import {
  expectAccessible,
  launch,
  Offences,
  overflow,
  PASSWORD,
  PASSWORD_HASH,
  signIn,
  startAggregator,
  startDashboard,
  type Dashboard,
} from './support.js';

const RANKS = 2;
/** Deep enough that a document takes some seconds. */
const LAYERS = 48;
/** More than all tests of the file take. */
const LONG = 200;
const PHONE = { width: 360, height: 740 };
/** For what comes in a second or two, unless the machine is busy. */
const PATIENCE_MS = 60_000;

let services: Services;
let bench: Bench;
let aggregator: { stop: () => Promise<void> };
let dashboard: Dashboard;
let browser: Browser;
let context: BrowserContext;
let page: Page;
const offences = new Offences();

/** The dashboard has the rights of its policy, which is for a bucket named longhaul, and no more. */
const key = { accessKeyId: 'key-of-dashboard', secretAccessKey: randomUUID() };
const policy = JSON.parse(
  readFileSync('infra/policies/s3-dashboard.json', 'utf8').replaceAll(':::longhaul', ':::longhaul-test'),
) as unknown;

/** Batches of the file: one answered, one failed with a dead item, a long one under way. */
let answered: string;
let failed: string;
let long: string;

beforeAll(async () => {
  services = await openServices(LAYERS, { limited: [{ ...key, policy }] });
  bench = new Bench(services);
  aggregator = startAggregator(services);
  [dashboard, browser] = await Promise.all([
    startDashboard(services, {
      dashboardPasswordHash: PASSWORD_HASH,
      s3AccessKeyId: key.accessKeyId,
      s3SecretAccessKey: key.secretAccessKey,
    }),
    launch(),
  ]);
  bench.cohort(RANKS, 'main');
  context = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: 'light' });
  context.setDefaultTimeout(PATIENCE_MS);
  await offences.watch(context, dashboard.url);
  const first = await context.newPage();
  await signIn(first, dashboard.url);
  await first.close();

  const two = [[1, 2, 3], [4, 5, 6]]; // prettier-ignore
  answered = await bench.submit(full(RANKS), [{ document: documentOf(600), questions: two }]);
  failed = await bench.submit(full(RANKS), [{ document: documentOf(500, 3), questions: two }]);
  const manifest = await readManifest(bench.store, failed);
  const sha256 = manifest.requests[0]?.document.sha256 ?? '';
  await bench.store.put(objectKeys.document(sha256), [Buffer.alloc(2000)]);
  await ended(answered);
  await ended(failed);
  await recordDead(bench.store, manifest, 0, {
    end: 'failed',
    code: 'POISON',
    message: 'the item ended 3 cohorts',
    history: [1, 2, 3].map((epoch) => ({
      cohort: 'main',
      generation: `${epoch}.abc`,
      epoch,
      at: 1_700_000_000,
      rank: 1,
      phase: 'prefill',
      code: 'RANK_SILENT',
      message: 'rank 1 sent no heartbeat',
    })),
  });
  long = await bench.submit(
    full(RANKS),
    Array.from({ length: LONG }, (_, i) => ({ document: documentOf(3000, 10 + i), questions: [[1, 2, 3]] })),
  );
});

afterAll(async () => {
  await browser?.close();
  await Promise.all([dashboard?.stop(), aggregator?.stop(), bench?.close()]);
  await services?.close();
});

beforeEach(async () => {
  page = await context.newPage();
});

afterEach(async () => {
  await page.close();
  expect(offences.found.splice(0)).toEqual([]);
});

const deps = () => ({ redis: bench.redis, store: bench.store });
const ended = (id: string) =>
  until(`batch ${id} ended`, PATIENCE_MS, async () => (await getStatus(deps(), id)).completed_at !== null);
const visit = (path: string) => page.goto(dashboard.url + path);
const dialog = () => page.getByRole('dialog');

test('a wrong password is refused; the cookie is for this site’s pages alone; signing out ends the session', async () => {
  const stranger = await browser.newContext();
  try {
    const door = await stranger.newPage();
    await door.goto(`${dashboard.url}/batches`);
    await door.getByLabel('Password').fill('not it');
    await door.getByRole('button', { name: 'Sign in' }).click();
    await door.getByRole('alert').getByText('that is not the password').waitFor();
    await expectAccessible(door, 'login');
    await door.getByLabel('Password').fill(PASSWORD);
    await door.keyboard.press('Enter');
    await door.getByRole('table').waitFor();
    const [cookie] = await stranger.cookies();
    expect(cookie).toMatchObject({ httpOnly: true, sameSite: 'Strict' });
    await door.getByRole('button', { name: 'Sign out' }).click();
    await door.getByLabel('Password').waitFor();
    const sent = await stranger.request.get(`${dashboard.url}/api/batches`, {
      headers: { cookie: `${cookie?.name}=${cookie?.value}` },
    });
    expect(sent.status()).toBe(401);
  } finally {
    await stranger.close();
  }
});

test('the overview goes on by itself: queue, ranks with phase and memory, counts, failures by cause', async () => {
  await visit('/');
  const cohort = page.getByRole('article', { name: 'cohort main' });
  await cohort.getByText('generation 1 · 2 ranks · cpu').waitFor();
  const ranks = cohort.getByRole('listitem');
  expect(await ranks.count()).toBe(RANKS);
  await ranks
    .nth(1)
    .getByText(/^prefill \d+\/48$/)
    .waitFor();
  expect(await ranks.nth(1).innerText()).toMatch(/\d+ MB/);
  const row = page.getByRole('row').filter({ hasText: long.slice(0, 14) });
  const progress = new RegExp(`(\\d+)/${LONG}`);
  const before = Number((await row.innerText()).match(progress)?.[1]);
  await until('more has ended on the page', PATIENCE_MS, async () => {
    const [, now] = (await row.innerText()).match(progress) ?? [];
    return Number(now) > before;
  });
  expect(await page.getByText(/^oldest /).innerText()).toMatch(/oldest \d/);
  const causes = page.getByRole('region', { name: 'Failures by cause' });
  expect(await causes.innerText()).toContain('BAD_DOCUMENT');
  await expectAccessible(page, 'overview');
});

test('from batch to document to its timeline, its answer and its place in S3', async () => {
  await visit(`/batches?search=${answered}`);
  await page.getByRole('link', { name: 'test.jsonl' }).click();
  await page.getByRole('heading', { name: 'test.jsonl' }).waitFor();
  await page.getByRole('link', { name: 'request 0' }).click();
  for (const step of ['Queued', 'Claimed', 'Prepared', 'Prefilled', 'Decoded', 'Committed'])
    await page.getByRole('listitem').filter({ hasText: step }).first().waitFor();
  const times = page.getByRole('region', { name: 'times by rank' });
  expect(await times.getByRole('row').count()).toBe(1 + RANKS);
  for (const phase of ['qkv', 'attention', 'mlp', 'communication'])
    expect(await times.getByRole('columnheader', { name: phase }).count()).toBe(1);
  const key = objectKeys.outcome(answered, 0, 'request 0');
  expect(await page.getByRole('article', { name: 'request request 0' }).innerText()).toContain(
    bench.store.url(key),
  );
  const { answers } = JSON.parse((await bench.store.get(key)).toString()) as { answers: { text: string }[] };
  const shown = await page.locator('.answer-text').allInnerTexts();
  expect(shown.map((text) => text.trim())).toEqual(answers.map(({ text }) => text.trim()));
  const detail = (await (
    await context.request.get(`${dashboard.url}/api/batches/${answered}/documents/0`)
  ).json()) as DocumentDetail;
  const { timeline, committed_at } = detail;
  expect(timeline?.queued_at).toBeLessThanOrEqual(timeline?.claimed_at ?? 0);
  expect(timeline?.claimed_at).toBeLessThanOrEqual(timeline?.prepared_at ?? 0);
  expect(timeline?.finished_at).toBeGreaterThan(timeline?.prepared_at ?? 0);
  // S3 tells whole seconds.
  expect(committed_at).toBeGreaterThan((timeline?.finished_at ?? 0) - 1000);
  await expectAccessible(page, 'document');
});

test('a document that runs shows each rank’s layers', async () => {
  await visit(`/batches/${long}?state=running`);
  const running = page.getByRole('region', { name: 'In hand' }).getByRole('link');
  await running.first().waitFor();
  await expectAccessible(page, 'batch');
  // It may have ended since the page said so: then the next one.
  await until('a document at work', PATIENCE_MS, async () => {
    const { active } = await getStatus(deps(), long);
    const [item] = active;
    if (item === undefined) return false;
    await visit(`/batches/${long}/documents/${item.item}`);
    const ranks = page.getByRole('list', { name: 'ranks at work' }).getByRole('listitem');
    return ranks
      .nth(1)
      .waitFor({ timeout: 5000 })
      .then(
        () => true,
        () => false,
      );
  });
});

test('cancel asks first; “Not now” changes nothing, and Escape neither', async () => {
  const id = await bench.submit(full(RANKS), [
    { document: documentOf(400, 77), questions: [[1, 2]] },
    { document: documentOf(400, 78), questions: [[1, 2]] },
  ]);
  await visit(`/batches/${id}`);
  await page.getByRole('button', { name: 'Cancel', exact: true }).click();
  expect(await dialog().innerText()).toContain('2 of 2 requests');
  await expectAccessible(page, 'dialog');
  await dialog().getByRole('button', { name: 'Not now' }).click();
  await page.getByRole('button', { name: 'Cancel', exact: true }).click();
  await page.keyboard.press('Escape');
  expect((await getStatus(deps(), id)).cancel_requested_at).toBeNull();
  await page.getByRole('button', { name: 'Cancel', exact: true }).click();
  await dialog().getByRole('button', { name: 'Cancel the batch' }).click();
  await page.getByText('Cancelling; 0 answers made so far stay.').waitFor();
  await page.locator('.page-state').getByText('cancelled', { exact: true }).waitFor();
  expect((await getStatus(deps(), id)).request_counts).toMatchObject({ total: 2, cancelled: 2 });

  // Retry takes up what was cancelled, in a batch of its own.
  await page.getByRole('button', { name: 'Retry 2' }).click();
  await dialog().getByRole('button', { name: 'Make the retry' }).click();
  await page.getByRole('link', { name: 'Open it' }).click();
  await page.waitForURL((url) => !url.pathname.includes(id));
  const retry = decodeURIComponent(new URL(page.url()).pathname.split('/').at(-1) ?? '');
  expect((await getStatus(deps(), retry)).request_counts.total).toBe(2);
  await page.getByRole('link', { name: id.slice(0, 14) }).waitFor();
  await page.getByRole('button', { name: 'Cancel', exact: true }).click();
  await dialog().getByRole('button', { name: 'Cancel the batch' }).click();
  await ended(retry);
});

test('redrive makes a batch of the dead item’s requests', async () => {
  await visit('/dead');
  const dead = page.getByRole('article', { name: `document 0 of ${failed}` });
  expect(await dead.innerText()).toContain('RANK_SILENT');
  await expectAccessible(page, 'dead items');
  await dead.getByRole('button', { name: 'Redrive' }).click();
  // The bytes of its document were damaged on purpose.
  const manifest = await readManifest(bench.store, failed);
  await dialog().getByRole('button', { name: 'Redrive' }).click();
  await page.getByText('A new batch redrives 1 request.').waitFor();
  await page.getByRole('link', { name: 'Open it' }).click();
  const redriven = new URL(page.url()).pathname.split('/').at(-1) ?? '';
  const header = (await readManifest(bench.store, redriven)).header;
  expect(header).toMatchObject({ retry_of: failed, totals: { requests: manifest.requests.length } });
});

test('Bull Board shows the queues behind the same login, and changes them only when unlocked', async () => {
  const strangers = await fetch(`${dashboard.url}/queues`);
  expect(strangers.status).toBe(401);
  const locked = await context.request.get(`${dashboard.url}/queues-unlocked`);
  expect(locked.status()).toBe(403);
  const change = async (board: string, what: string) => {
    const [cookie] = await context.cookies();
    const headers = { cookie: `${cookie?.name}=${cookie?.value}`, origin: dashboard.url };
    const path = `${dashboard.url}/${board}/api/queues/documents/${what}`;
    return (await fetch(path, { method: 'PUT', headers })).status;
  };
  expect(await change('queues', 'pause')).toBe(405);
  expect(await change('queues-unlocked', 'pause')).toBe(403);
  await visit('/board');
  await expectAccessible(page, 'queues');
  await page.getByRole('button', { name: 'Unlock changes' }).click();
  await dialog().getByRole('button', { name: 'Unlock for ten minutes' }).click();
  await page.getByRole('link', { name: 'Open it unlocked' }).waitFor();
  expect((await context.request.get(`${dashboard.url}/queues-unlocked`)).status()).toBe(200);
  expect(await change('queues-unlocked', 'resume')).toBe(200);
  await page.getByRole('button', { name: 'Lock again' }).click();
  await page.getByRole('button', { name: 'Unlock changes' }).waitFor();
  expect((await context.request.get(`${dashboard.url}/queues-unlocked`)).status()).toBe(403);
  await visit('/queues');
  await page.getByText('documents').first().waitFor();
  expect(await page.title()).toContain('read only');
});

test('light and dark, chosen and kept; every page fits a phone; both are clean for axe', async () => {
  await visit('/');
  await page.getByRole('button', { name: 'use the dark theme' }).click();
  expect(await page.evaluate('document.documentElement.dataset.theme')).toBe('dark');
  await page.reload();
  await page.getByRole('button', { name: 'use the light theme' }).waitFor();
  expect(await page.evaluate('getComputedStyle(document.documentElement).colorScheme')).toBe('dark');
  await page.setViewportSize(PHONE);
  const paths = [
    '/',
    '/batches',
    `/batches/${long}`,
    `/batches/${answered}/documents/0`,
    '/dead',
    '/cohorts',
    '/board',
  ];
  for (const path of paths) {
    await visit(path);
    await page.getByRole('region').first().waitFor();
    await expectAccessible(page, `dark ${path}`);
    expect(await overflow(page), path).toBeLessThanOrEqual(0);
  }
  await page.getByRole('button', { name: 'use the light theme' }).click();
});

test('the keyboard alone reaches content, charts and actions', async () => {
  await visit(`/batches/${long}`);
  await page.getByRole('button', { name: 'Cancel', exact: true }).waitFor();
  await page.keyboard.press('Tab');
  expect(await page.evaluate('document.activeElement.textContent')).toBe('Skip to content');
  await page.keyboard.press('Enter');
  await until('the action has the focus', PATIENCE_MS, async () => {
    await page.keyboard.press('Tab');
    return (await page.evaluate('document.activeElement.textContent')) === 'Cancel';
  });
  await page.keyboard.press('Enter');
  await dialog().waitFor();
  await page.keyboard.press('Escape');
  await dialog().waitFor({ state: 'hidden' });
  expect(await page.evaluate('document.activeElement.textContent')).toBe('Cancel');
  await visit('/');
  const chart = page.getByRole('img', { name: /^Tokens per second/ });
  await chart.focus();
  await page.keyboard.press('ArrowLeft');
  await page.locator('.chart .time').waitFor();
});

describe('whoever is not the page', () => {
  const post = (path: string, headers: Record<string, string>) =>
    fetch(dashboard.url + path, {
      method: 'POST',
      body: '{}',
      headers: { 'content-type': 'application/json', ...headers },
    });

  test('changes nothing: without session, from another origin, without the token', async () => {
    const [cookie] = await context.cookies();
    const session = `${cookie?.name}=${cookie?.value}`;
    const path = `/api/batches/${long}/cancel`;
    const { csrf } = (await (await context.request.get(`${dashboard.url}/api/session`)).json()) as Session;
    const token = { 'x-csrf-token': csrf ?? '' };
    expect((await post(path, { origin: dashboard.url, ...token })).status).toBe(401);
    expect((await post(path, { cookie: session, origin: 'https://evil.example', ...token })).status).toBe(
      403,
    );
    expect((await post(path, { cookie: session, ...token })).status).toBe(403);
    expect((await post(path, { cookie: session, origin: dashboard.url })).status).toBe(403);
    expect(
      (await post(path, { cookie: session, origin: dashboard.url, 'x-csrf-token': randomUUID() })).status,
    ).toBe(403);
    expect((await getStatus(deps(), long)).cancel_requested_at).toBeNull();
    expect((await fetch(`${dashboard.url}/api/live`)).status).toBe(401);
  });

  test('gets a policy that allows nothing inline and nothing from elsewhere', async () => {
    const { headers } = await fetch(dashboard.url);
    const policy = headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain('unsafe');
    expect(policy).not.toContain('http');
  });
});
