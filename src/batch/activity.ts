/**
 * What was committed, by stretches of time, for charts: counters in Redis that expire. They are no
 * record (S3 is): whoever dies between a commit and its count leaves one out.
 */
import type { Redis } from 'ioredis';
import type { Outcome } from '../contracts/outcome.js';
import type { Execution } from '../contracts/work-item.js';
import { redisKeys } from '../platform/keys.js';

/** Stretches kept: short ones for an hour, long ones for a day. */
export const SERIES = [
  { seconds: 10, keepSeconds: 3600 },
  { seconds: 300, keepSeconds: 86_400 },
] as const;

/** Latencies fall into bins whose borders grow by this factor, from 1 ms on. */
const BIN_FACTOR = 1.2;

export interface Committed {
  outcomes: readonly Pick<Outcome, 'status' | 'error' | 'usage'>[];
  execution: Pick<Execution, 'prefill_seconds' | 'decode_seconds'> | null;
  /** Unix milliseconds. */
  queuedAt: number;
}

/** Counts one work item whose outcomes are in S3. */
export async function recordActivity(redis: Redis, ended: Committed, at = Date.now()): Promise<void> {
  const counts = countsOf(ended, at);
  const multi = redis.multi();
  for (const { seconds, keepSeconds } of SERIES) {
    const key = redisKeys.activity(seconds, startOf(at, seconds));
    for (const [field, value] of counts) multi.hincrby(key, field, value);
    multi.expire(key, keepSeconds + 2 * seconds);
  }
  await multi.exec();
}

const startOf = (ms: number, seconds: number): number => Math.floor(ms / 1000 / seconds) * seconds;

function countsOf({ outcomes, execution, queuedAt }: Committed, at: number): Map<string, number> {
  const counts = new Map<string, number>();
  const add = (field: string, value: number) => counts.set(field, (counts.get(field) ?? 0) + value);
  for (const { status, error, usage } of outcomes) {
    add(status, 1);
    if (status === 'failed') add(`cause:${error?.code ?? 'UNKNOWN'}`, 1);
    add('answer_tokens', usage?.answer_tokens ?? 0);
  }
  if (execution === null) return counts;
  add('documents', 1);
  add('document_tokens', outcomes[0]?.usage?.document_tokens ?? 0);
  add(`latency:${binOf(at - queuedAt)}`, 1);
  add(`run:${binOf((execution.prefill_seconds + execution.decode_seconds) * 1000)}`, 1);
  return counts;
}

const binOf = (ms: number): number =>
  Math.max(0, Math.round(Math.log(Math.max(1, ms)) / Math.log(BIN_FACTOR)));

/** One stretch of time. Latencies in seconds, within a tenth of the true ones; null: no document ended. */
export interface ActivityPoint {
  /** Unix seconds. */
  at: number;
  documents: number;
  answered: number;
  failed: number;
  cancelled: number;
  expired: number;
  document_tokens: number;
  answer_tokens: number;
  /** From queued to committed. */
  latency_p50: number | null;
  latency_p95: number | null;
  /** Prefill and decode. */
  run_p50: number | null;
}

export interface Activity {
  /** Length of each point in seconds. */
  seconds: number;
  points: ActivityPoint[];
  /** Failed requests by cause over the whole time, most frequent first. */
  causes: { code: string; count: number }[];
}

/**
 * The last `minutes`, as `points` stretches of equal length; the last one is not over yet.
 * More than an hour is told in stretches of five minutes and longer.
 */
export async function readActivity(
  redis: Redis,
  minutes: number,
  points: number,
  at = Date.now(),
): Promise<Activity> {
  const [short, long] = SERIES;
  const series = minutes * 60 <= short.keepSeconds ? short : long;
  const each = Math.max(1, Math.round((minutes * 60) / points / series.seconds));
  const seconds = each * series.seconds;
  const last = startOf(at, seconds);
  const starts = Array.from({ length: points }, (_, i) => last - (points - 1 - i) * seconds);
  const pipeline = redis.pipeline();
  for (const start of starts) {
    for (let i = 0; i < each; i++)
      pipeline.hgetall(redisKeys.activity(series.seconds, start + i * series.seconds));
  }
  const replies = (await pipeline.exec()) ?? [];
  const hashes = replies.map(([error, hash]) => {
    if (error !== null) throw error;
    return hash as Record<string, string>;
  });
  const causes = new Map<string, number>();
  const told = starts.map((start, i) => {
    const sums = sumOf(hashes.slice(i * each, (i + 1) * each));
    for (const [field, value] of sums) {
      if (!field.startsWith('cause:')) continue;
      const code = field.slice('cause:'.length);
      causes.set(code, (causes.get(code) ?? 0) + value);
    }
    return pointOf(start, sums);
  });
  const byCount = [...causes].map(([code, count]) => ({ code, count })).sort((a, b) => b.count - a.count);
  return { seconds, points: told, causes: byCount };
}

function sumOf(hashes: Record<string, string>[]): Map<string, number> {
  const sums = new Map<string, number>();
  for (const hash of hashes)
    for (const [field, value] of Object.entries(hash))
      sums.set(field, (sums.get(field) ?? 0) + Number(value));
  return sums;
}

function pointOf(at: number, sums: Map<string, number>): ActivityPoint {
  const number = (field: string) => sums.get(field) ?? 0;
  return {
    at,
    documents: number('documents'),
    answered: number('answered'),
    failed: number('failed'),
    cancelled: number('cancelled'),
    expired: number('expired'),
    document_tokens: number('document_tokens'),
    answer_tokens: number('answer_tokens'),
    latency_p50: quantile(sums, 'latency:', 0.5),
    latency_p95: quantile(sums, 'latency:', 0.95),
    run_p50: quantile(sums, 'run:', 0.5),
  };
}

function quantile(sums: Map<string, number>, prefix: string, share: number): number | null {
  const bins = [...sums]
    .filter(([field]) => field.startsWith(prefix))
    .map(([field, count]) => ({ bin: Number(field.slice(prefix.length)), count }))
    .sort((a, b) => a.bin - b.bin);
  const total = bins.reduce((sum, { count }) => sum + count, 0);
  let seen = 0;
  for (const { bin, count } of bins) {
    seen += count;
    if (seen >= share * total) return Math.round(BIN_FACTOR ** bin) / 1000;
  }
  return null;
}
