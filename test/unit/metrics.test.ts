import { readFileSync } from 'node:fs';
import { S3ServiceException } from '@aws-sdk/client-s3';
import { expect, test } from 'vitest';
import { countStates, memoryOf } from '../../src/aggregator/gauges.js';
import { measureEnd } from '../../src/aggregator/measure-end.js';
import { lossCause, measureRun } from '../../src/gpu-worker/measure-run.js';
import { s3Result } from '../../src/platform/measure-s3.js';
import { registry } from '../../src/platform/metrics.js';

/** Every label, and all that it may say; null: what a person configured (names of cohorts). */
const LABELS: Record<string, RegExp | null> = {
  operation: /^[A-Z][A-Za-z0-9]{2,40}$/,
  result: /^(ok|refused|failed|aborted|unreached)$/,
  phase: /^(prepare|prefill|decode)$/,
  part: /^[a-z_]{1,20}$/,
  direction: /^(sent|received)$/,
  outcome: /^(answered|failed|cancelled|expired)$/,
  gen_ai_token_type: /^(input|output)$/,
  gen_ai_operation_name: /^chat$/,
  gen_ai_provider_name: /^longhaul$/,
  state: /^(waiting|active|delayed|uncommitted|forming|ready|running|draining|aborted|closed|silent)$/,
  kind: /^(used|limit)$/,
  cohort: null,
  cause: /^[A-Z_]{1,20}$/,
};

interface Described {
  name: string;
  help: string;
  type: string;
  labelNames: string[];
}
const metrics = registry.getMetricsAsArray() as unknown as Described[];

test('docs/metrics.md has each metric with its kind, labels and meaning, and no other', () => {
  const page = readFileSync('docs/metrics.md', 'utf8');
  const rows = page.split('\n').filter((line) => /^\| `(longhaul|gen_ai)_/.test(line));
  const kinds = Object.fromEntries(
    metrics.map(({ name }) => [name, registry.getSingleMetric(name)?.constructor.name.toLowerCase() ?? '']),
  );
  const expected = metrics.map(({ name, help, labelNames }) => {
    const labels = labelNames.map((label) => `\`${label}\``).join(', ');
    return `| \`${name}\` | ${kinds[name]} | ${labels} | ${help} |`;
  });
  expect(rows).toEqual(expected);
});

test('labels are those that this test knows: no id of a batch, a request or a document', () => {
  const used = new Set(metrics.flatMap(({ labelNames }) => labelNames));
  expect([...used].sort()).toEqual(Object.keys(LABELS).sort());
});

test('what is counted keeps to the values of its labels, and adds up', async () => {
  registry.resetMetrics();
  const usage = { document_tokens: 1000, query_tokens: 3, answer_tokens: 2 };
  measureEnd(
    undefined,
    [
      { status: 'answered', usage },
      { status: 'answered', usage },
      { status: 'failed', usage: null },
    ],
    Date.now() - 2000,
  );
  const dead = { end: 'failed', code: 'POISON', message: 'it ended three cohorts' } as const;
  measureEnd(dead, [{ status: 'failed', usage: null }], Date.now());
  measureRun(0.1, {
    prefillSeconds: 2,
    decodeSeconds: 1,
    phases: null,
    passedBytes: { sent: 6, received: 2 },
  });
  const values = await Promise.all(
    [
      'longhaul_tokens_total',
      'longhaul_requests_total',
      'longhaul_documents_total',
      'longhaul_dead_items_total',
      'longhaul_passed_bytes_total',
    ].map(async (name) =>
      (await registry.getSingleMetric(name)?.get())?.values.map(({ labels, value }) => [
        ...Object.values(labels as Record<string, string>),
        value,
      ]),
    ),
  );
  expect(values).toEqual([
    [
      ['input', 'answered', 1006],
      ['output', 'answered', 4],
      ['input', 'failed', 0],
    ],
    [
      ['answered', 2],
      ['failed', 2],
    ],
    [
      ['answered', 1],
      ['failed', 1],
    ],
    [[1]],
    [
      ['sent', 6],
      ['received', 2],
    ],
  ]);
  for (const metric of await registry.getMetricsAsJSON()) {
    for (const { labels } of metric.values as { labels: Record<string, string> }[]) {
      for (const [label, value] of Object.entries(labels))
        if (label !== 'le') expect(String(value)).toMatch(LABELS[label] ?? /^$/);
    }
  }
});

test('causes of a loss and results of S3 are few', () => {
  const codes = ['LEASE_LOST', 'RUN_TIMEOUT', 'ENGINE_COMM', 'ECONNRESET', 'RANK_SILENT'];
  expect(codes.map(lossCause)).toEqual(['LEASE_LOST', 'TIMEOUT', 'ENGINE', 'OTHER', 'RANK_SILENT']);
  const reply = (httpStatusCode: number) =>
    new S3ServiceException({ name: 'x', $fault: 'server', $metadata: { httpStatusCode } });
  const aborted = Object.assign(new Error('no'), { name: 'AbortError' });
  expect([reply(404), reply(412), reply(503), aborted, new Error('ECONNREFUSED')].map(s3Result)).toEqual([
    'refused',
    'refused',
    'failed',
    'aborted',
    'unreached',
  ]);
});

test('cohorts are counted by the state they told, silent ones apart', () => {
  const cohort = (state: 'READY' | 'RUNNING' | 'CLOSED', updated_at: number) => ({ state, updated_at });
  const told = [cohort('READY', 100), cohort('READY', 101), cohort('RUNNING', 99), cohort('CLOSED', 1)];
  const counts = Object.fromEntries(countStates(told, 100));
  expect(counts).toMatchObject({ ready: 2, running: 0, silent: 1, closed: 1, forming: 0 });
  expect(Object.keys(counts).every((state) => LABELS['state']!.test(state))).toBe(true);
});

test('the limit of Redis is its own, or its machine', () => {
  const info = (maxmemory: number) =>
    `# Memory\r\nused_memory:123\r\nused_memory_rss:9\r\ntotal_system_memory:4096\r\nmaxmemory:${maxmemory}\r\n`;
  expect(memoryOf(info(0))).toEqual({ used: 123, limit: 4096 });
  expect(memoryOf(info(1000))).toEqual({ used: 123, limit: 1000 });
});
