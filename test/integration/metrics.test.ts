/** Metrics and health of real processes: an aggregator, a dashboard, a gateway, a scheduler and a rank, over a real Redis and S3. */
import { resolve } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { createBatch } from '../../src/batch/create.js';
import { endProcess, freePort } from '../support/services.js';
import { watch } from '../support/leaks.js';
import { failItem, makeBatch, makeResult, newId, spawnCli, useBench, type Bench } from './batch-support.js';

const file = useBench();
let bench: Bench;
beforeEach(() => {
  ({ bench } = file);
});

async function startMonitored(args: string[]) {
  const port = await freePort();
  const child = watch(
    spawnCli({ ...bench.config, modelDir: resolve('models/demo') }, [
      ...args,
      '--metrics-port',
      String(port),
    ]),
  );
  child.stdout?.resume();
  child.stderr?.resume();
  const ask = async (path: string) => {
    const reply = await fetch(`http://127.0.0.1:${port}${path}`).catch(() => undefined);
    return { code: reply?.status, text: (await reply?.text()) ?? '' };
  };
  const readyz = async () => {
    const { code, text } = await ask('/readyz');
    return { code, ...(text === '' ? {} : (JSON.parse(text) as object)) };
  };
  const until = (code: number) =>
    bench.until(async () => ((await readyz()).code === code ? true : undefined), 60_000);
  return { child, ask, readyz, until };
}

test(
  'what happened to a batch is told by /metrics, and health is the truth with and without Redis',
  {
    timeout: 120_000,
  },
  async () => {
    const demo = ['--rank', '0', '--ranks', '1', '--backend', 'cpu'];
    const [aggregator, dashboard, gateway, scheduler, rank] = await Promise.all([
      startMonitored(['aggregator']),
      startMonitored(['dashboard', '--dashboard-port', '0']),
      startMonitored(['gateway', '--gateway-port', '0']),
      startMonitored(['scheduler']),
      startMonitored(['worker', '--cohort', 'measured', ...demo]),
    ]);
    try {
      await rank.until(200);
      expect(await rank.readyz()).toEqual({
        code: 200,
        status: 'ready',
        redis: true,
        s3: true,
        cohort: true,
      });
      expect((await rank.ask('/metrics')).text).toContain('longhaul_rank_generation 1\n');
      await bench.until(async () =>
        (await aggregatorSays('cohort_generation{cohort="measured"}')) === 1 ? true : undefined,
      );
      expect(await aggregatorSays('cohorts{state="ready"}')).toBe(1);
      expect(await aggregatorSays('redis_memory_bytes{kind="used"}')).toBeGreaterThan(100_000);
      expect(await aggregatorSays('redis_memory_bytes{kind="limit"}')).toBeGreaterThan(1_000_000);
      // A closed cohort leaves its queue to the worker below; it says no while it goes.
      await endProcess(rank.child);
      expect(rank.child.exitCode).toBe(0);

      const id = newId();
      const { manifest, items } = makeBatch(id, { items: [1, 3, 2] });
      await Promise.all([aggregator, dashboard, gateway, scheduler].map((each) => each.until(200)));
      expect(await aggregatorSays('cohorts{state="ready"}')).toBe(0);
      expect((await scheduler.ask('/metrics')).text).toContain(
        'longhaul_s3_operation_duration_seconds_count',
      );
      const { code, text: told } = await gateway.ask('/metrics');
      expect(code).toBe(200);
      expect(told).toMatch(
        /longhaul_s3_operation_duration_seconds_count\{operation="\w+",result="ok"\} [1-9]/,
      );
      await createBatch(bench.deps, manifest, items);
      expect(await aggregatorSays('queue_items{state="waiting"}')).toBe(3);
      await bench.until(async () =>
        ((await aggregatorSays('queue_oldest_seconds')) ?? 0) > 0 ? true : undefined,
      );
      bench.answering((job) => {
        if (job.item === 1)
          failItem({ end: 'failed', code: 'TOO_LONG', message: 'the document is too long' });
        return makeResult(items[job.item]!);
      });
      await bench.ended(id);
      expect(await aggregatorSays('queue_items{state="waiting"}')).toBe(0);
      expect(await aggregatorSays('queue_oldest_seconds')).toBe(0);
      expect(await aggregatorSays('requests_total{outcome="answered"}')).toBe(3);
      expect(await aggregatorSays('requests_total{outcome="failed"}')).toBe(3);
      expect(await aggregatorSays('documents_total{outcome="answered"}')).toBe(2);
      // Documents of 1000 and 1002 tokens, three questions of 3.
      expect(await aggregatorSays('tokens_total{gen_ai_token_type="input",outcome="answered"}')).toBe(2011);
      expect(await aggregatorSays('tokens_total{gen_ai_token_type="output",outcome="answered"}')).toBe(6);
      const { text } = await aggregator.ask('/metrics');
      expect(text).toMatch(
        /longhaul_s3_operation_duration_seconds_count\{operation="PutObject",result="ok"\} [1-9]/,
      );
      expect(text).toContain('bullmq_job_count{queue="documents", state="waiting"} 0');
      expect(text.match(/# TYPE bullmq_job_count gauge/g)).toHaveLength(1);
      expect(text).not.toContain(id);

      await file.redis.kill('SIGSTOP');
      await Promise.all([aggregator.until(503), dashboard.until(503), gateway.until(503)]);
      const gone = { code: 503, status: 'unavailable', redis: false, s3: true };
      expect(await aggregator.readyz()).toEqual(gone);
      expect(await dashboard.readyz()).toEqual(gone);
      expect(await gateway.readyz()).toEqual(gone);
      expect((await aggregator.ask('/healthz')).code).toBe(200);
      await file.redis.kill('SIGCONT');
      await Promise.all([aggregator.until(200), dashboard.until(200), gateway.until(200)]);
    } finally {
      await file.redis.kill('SIGCONT');
      await Promise.all(
        [aggregator, dashboard, gateway, scheduler, rank].map(({ child }) => endProcess(child)),
      );
    }

    async function aggregatorSays(metric: string): Promise<number | undefined> {
      const { text } = await aggregator.ask('/metrics');
      const line = text.split('\n').find((each) => each.startsWith(`longhaul_${metric} `));
      return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ') + 1));
    }
  },
);
