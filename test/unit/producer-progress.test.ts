import { PassThrough } from 'node:stream';
import { expect, test, vi } from 'vitest';
import { describeCounts, describeProgress, watchBatch } from '../../src/cli/progress.js';
import type { Outcome } from '../../src/contracts/outcome.js';
import type { BatchStatus } from '../../src/contracts/status.js';

const status = (change: Partial<BatchStatus> & { answered?: number; failed?: number }): BatchStatus => {
  const { answered = 0, failed = 0, ...rest } = change;
  const pending = 3 - answered - failed;
  return {
    id: 'batch_1',
    status: 'in_progress',
    created_at: Math.floor(Date.now() / 1000) - 100,
    expires_at: null,
    completed_at: null,
    cancel_requested_at: null,
    request_counts: { total: 3, answered, failed, cancelled: 0, expired: 0, pending },
    input: 'requests.jsonl',
    active: [],
    given_back: [],
    documents: { total: 2, ended: 0 },
    usage: { document_tokens: 0, query_tokens: 0, answer_tokens: 0 },
    work: { documents: 0, document_tokens: 0, rank_seconds: { gpu: 0, cpu: 0 } },
    then: null,
    then_of: null,
    ...rest,
  };
};
const active = (phase: string, done: number, epoch = 1) => [
  { item: 2, epoch, phase, done, total: 8, document_tokens: 30_000 },
];

/** Follows the given statuses on a stream and returns all that was written. */
async function watched(statuses: BatchStatus[], isTTY: boolean): Promise<{ text: string; end: BatchStatus }> {
  const stream = Object.assign(new PassThrough(), { isTTY, columns: 120 });
  let text = '';
  stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  let next = 0;
  const get = () => Promise.resolve(statuses[Math.min(next++, statuses.length - 1)] as BatchStatus);
  const told = new Set<number>();
  const failures = ({ request_counts: { failed } }: BatchStatus) => {
    if (failed <= told.size) return Promise.resolve([]);
    told.add(failed);
    const error = { code: 'TOO_LONG', message: 'it has\n9 tokens' };
    return Promise.resolve([{ custom_id: 'r-2', error } as Outcome]);
  };
  // The displays use no more of a terminal than this.
  const end = await watchBatch(
    { status: get, failures },
    new AbortController().signal,
    stream as unknown as NodeJS.WriteStream,
  );
  return { text, end };
}

const story = [
  status({ active: active('prefill', 1) }),
  status({ active: active('prefill', 5) }),
  status({ answered: 1, active: active('decode', 1, 2) }),
  status({ answered: 2, failed: 1, status: 'finalizing' }),
  status({ answered: 2, failed: 1, status: 'completed' }),
];

test('lines: one a phase, one a change of counts, one a failure', async () => {
  const { text, end } = await watched(story, false);
  expect(text.replace(/[\d.]+(?= tokens\/s| requests\/min| s to go)/g, 'N').split('\n')).toEqual([
    'document 2 (30000 tokens): prefill 1/8',
    'in_progress: 0 of 3 requests ended; 0 of 2 documents, N tokens/s',
    'document 2 (30000 tokens): decode 1/8, start 2',
    'in_progress: 1 of 3 requests ended: 1 answered; 0 of 2 documents, N tokens/s, N requests/min, N s to go',
    'request "r-2" failed: it has 9 tokens [TOO_LONG]',
    'finalizing: 3 of 3 requests ended: 2 answered, 1 failed; 0 of 2 documents, 1 failed',
    'completed: 3 of 3 requests ended: 2 answered, 1 failed; 0 of 2 documents, 1 failed',
    '',
  ]);
  expect(end.status).toBe('completed');
});

test('a bar on a terminal, without colours, so that NO_COLOR holds', async () => {
  const { text } = await watched(story, true);
  expect(text).toMatch(
    /0\/3 requests, 0 of 2 documents, \d+ tokens\/s \| document 2 \(30000 tokens\): prefill 1\/8/,
  );
  expect(text).toContain('3/3 requests');
  expect(text).toContain('\nrequest "r-2" failed');
  expect(text).toContain('\x1b[');
  expect(text).not.toMatch(/\x1b\[[\d;]*m/); // eslint-disable-line no-control-regex
});

test('that no cohort takes its documents is told once, and again when one has come and gone', async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  try {
    const idle = status({});
    const waits = [idle, idle, idle, idle, status({ active: active('prefill', 1) }), idle, idle];
    const statuses = [...waits, status({ answered: 3, status: 'completed' })];
    const get = () => {
      vi.setSystemTime(Date.now() + 20_000);
      return Promise.resolve(statuses.shift() as BatchStatus);
    };
    const stream = new PassThrough();
    const watching = watchBatch(
      { status: get, failures: () => Promise.resolve([]) },
      new AbortController().signal,
      stream as unknown as NodeJS.WriteStream,
    );
    const chunks = stream.toArray();
    await watching;
    stream.end();
    const told = (await chunks).join('').match(/no document of this batch was claimed|: prefill/g);
    expect(told).toEqual([
      'no document of this batch was claimed',
      ': prefill',
      'no document of this batch was claimed',
    ]);
  } finally {
    vi.useRealTimers();
  }
});

test('an abort ends the wait', async () => {
  const wait = watchBatch(
    { status: () => Promise.resolve(status({})), failures: () => Promise.resolve([]) },
    AbortSignal.timeout(50),
    Object.assign(new PassThrough(), { isTTY: false }) as unknown as NodeJS.WriteStream,
  );
  await expect(wait).rejects.toThrow(/abort/i);
});

test('counts in words', () => {
  expect(describeCounts(status({}))).toBe('in_progress: 0 of 3 requests ended');
});

test.each([
  [{}, [null, null], '0 of 2 documents'],
  [{ failed: 1 }, [null, 0], '0 of 2 documents, 1 failed, 0 tokens/s'],
  [{ answered: 1 }, [0.5, 1234.5], '0 of 2 documents, 1235 tokens/s, 30.0 requests/min, 4 s to go'],
  [
    { answered: 1, failed: 1 },
    [0.01, 9],
    '0 of 2 documents, 1 failed, 9 tokens/s, 0.6 requests/min, 2 min to go',
  ],
  [{ answered: 1 }, [0.0001, 9], '0 of 2 documents, 9 tokens/s, 0.0 requests/min, 5.6 h to go'],
  [{ answered: 3, documents: { total: 2, ended: 2 } }, [1, 9], '2 of 2 documents'],
] as const)('the progress of a batch with %j at %j a second', (change, [requests, tokens], text) => {
  expect(describeProgress(status(change), { requests, tokens })).toBe(text);
});
