import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import type { SourceDocument } from '../../src/contracts/schedule.js';
import { digestMarkdown } from '../../src/producer/schedule/digest.js';
import { newSchedule } from '../../src/producer/schedule/new-schedule.js';
import { choose, nextStep, type RunFacts } from '../../src/producer/schedule/run-state.js';
import { latestDue, nextDue, runName } from '../../src/producer/schedule/times.js';
import { callWebhook } from '../../src/producer/schedule/webhook.js';

const document = (name: string, change: Partial<SourceDocument> = {}): SourceDocument => ({
  url: `s3://in/${name}`,
  etag: '"1"',
  bytes: 5,
  modified_at: 100,
  ...change,
});

test('a run takes what is new, changed in any way, or was left without an answer', () => {
  const seen = { found: ['a', 'b', 'c', 'd', 'gone'].map((n) => document(n)), unanswered: ['s3://in/d'] };
  const found = [
    document('a'),
    document('b', { etag: '"2"' }),
    document('c', { modified_at: 101 }),
    document('d'),
    document('new'),
  ];
  expect(choose(found, seen)).toEqual([1, 2, 3, 4]);
  expect(choose(found, undefined)).toEqual([0, 1, 2, 3, 4]);
});

test('what S3 holds of a run says what comes next', () => {
  const nothing: RunFacts = {
    earlierOpen: false,
    plan: undefined,
    batch: undefined,
    batchEnded: false,
    end: undefined,
    webhook: undefined,
    hasWebhook: true,
  };
  const plan = { found: [document('a')], chosen: [0] };
  const batch = { batch_id: 'b', refused: [], split: [] };
  const end = (status: 'succeeded' | 'failed') => ({
    status,
    error: null,
    documents: 1,
    answered: 1,
    unanswered: [],
    digest: null,
    ended_at: 1,
  });
  const told = { delivered: false, attempts: 3, detail: 'answered 500' };
  const steps = (
    [
      {},
      { earlierOpen: true },
      { plan },
      { plan: { found: [], chosen: [] } },
      { plan, batch },
      { plan, batch, batchEnded: true },
      { plan, batch, end: end('succeeded') },
      { end: end('failed') },
      { end: end('failed'), hasWebhook: false },
      { end: end('failed'), webhook: told },
    ] satisfies Partial<RunFacts>[]
  ).map((facts) => nextStep({ ...nothing, ...facts }));
  expect(steps.join(' ')).toBe('plan wait submit digest wait digest done notify done done');
});

describe('times', () => {
  const clock = { cron: '0 6 * * *', tz: 'Europe/Berlin' };
  test('are those of the zone, also where its clocks change', () => {
    expect(latestDue(clock, new Date('2026-03-28T12:00:00Z')).toISOString()).toBe('2026-03-28T05:00:00.000Z');
    expect(nextDue(clock, new Date('2026-03-28T12:00:00Z')).toISOString()).toBe('2026-03-29T04:00:00.000Z');
  });
  test('the moment itself is due', () => {
    const moment = new Date('2026-03-29T04:00:00Z');
    expect(latestDue(clock, moment)).toEqual(moment);
    expect(runName(moment)).toBe('20260329T040000Z');
  });
});

test.each([
  [{ name: '1st' }, /the name 1st must be a letter/],
  [{ cron: '0 25 * * *' }, /--cron "0 25 \* \* \*" is no cron pattern/],
  [{ tz: 'Mars/North' }, /--tz Mars\/North is no time zone/],
  [{ input: 's3://bucket/file.txt' }, /--input .* must be s3:\/\/bucket\/prefix\/ and end with \//],
  [{ out: 's3://bucket/in/digests/' }, /lies below --input/],
  [{ webhook: 'ftp://secret' }, /^--webhook is no http or https URL/],
  [{ prompt: ' \n' }, /--prompt is empty/],
])('a schedule with %o is refused', (change, message) => {
  const good = { name: 'n', cron: '0 6 * * *', tz: 'UTC', input: 's3://bucket/in/', prompt: 'What?' };
  const named = { ...good, maxTokens: 8, priority: 0 };
  expect(newSchedule(named).prompt).toBe('What?');
  expect(() => newSchedule({ ...named, ...change })).toThrow(message);
});

test('no answer becomes a heading of the digest', () => {
  const entry = {
    document: document('a`b'),
    status: 'answered' as const,
    answer: '# no\n# heading',
    parts: 3,
    error: null,
  };
  const text = digestMarkdown({ name: 'n', input: 's3://in/', prompt: 'What?' }, 'run', [entry]);
  expect(text.match(/^#.*$/gm)).toEqual(['# n, run', '## `` a`b ``']);
  expect(text).toContain('Read in 3 parts; this is asked of their answers.');
  expect(text).toContain('> # no\n> # heading');
});

test.each([
  ['never', 'no answer within 200 ms'],
  ['500', 'answered 500'],
  ['302', 'answered 302'],
  ['hang up', 'could not be reached'],
])('a webhook that answers %s is called three times, and no more', async (how, detail) => {
  let calls = 0;
  const server = createServer((request, response) => {
    calls += 1;
    if (how === '302') response.writeHead(302, { location: '/elsewhere' }).end();
    else if (how === '500') response.writeHead(500).end();
    else if (how === 'hang up') request.socket.destroy();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
    const news = { schedule: 'n', run: 'r', status: 'failed' as const, error: { code: 'C', message: 'm' } };
    const limits = { webhook: 200, webhookBackoff: 5 };
    const began = performance.now();
    const told = await callWebhook(url, news, limits, new AbortController().signal);
    expect(told).toEqual({ delivered: false, attempts: 3, detail });
    // One may be given up before it gets there.
    expect(calls).toBeLessThanOrEqual(3);
    expect(calls).toBeGreaterThan(0);
    expect(performance.now() - began).toBeLessThan(3000);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
