import type { Redis } from 'ioredis';
import { chunks } from '../batch/concurrency.js';
import { statusFromFields } from '../batch/status.js';
import { redisKeys } from '../platform/keys.js';
import type { BatchPage, BatchRow } from './api.js';
import { Pace } from '../batch/pace.js';

export interface BatchQuery {
  /** A state, or `unfinished`. */
  state?: string;
  /** Part of the id or of the input's name. */
  search?: string;
  offset: number;
  limit: number;
}

/** Hashes asked for in one round trip. */
const AT_ONCE = 500;

const isFinished = ({ completed_at }: BatchRow): boolean => completed_at !== null;

/**
 * The batches that Redis knows, newest first. A finished batch does not change, so each refresh reads
 * the list of ids and the unfinished ones only.
 */
export class BatchIndex {
  private ids: string[] = [];
  private readonly rows = new Map<string, BatchRow>();
  private readonly paces = new Map<string, Pace>();
  private refreshing: Promise<void> | undefined;
  private refreshedAt = -Infinity;

  constructor(private readonly redis: Redis) {}

  /** Brings the index up to date, unless that was done within `maxAgeMs`. */
  refresh(maxAgeMs = 0): Promise<void> {
    if (performance.now() - this.refreshedAt < maxAgeMs) return Promise.resolve();
    this.refreshing ??= this.read().finally(() => (this.refreshing = undefined));
    return this.refreshing;
  }

  get(id: string): BatchRow | undefined {
    return this.rows.get(id);
  }

  summary(recent: number): { total: number; unfinished: number; recent: BatchRow[] } {
    const open: BatchRow[] = [];
    const done: BatchRow[] = [];
    for (const row of this.all()) (isFinished(row) ? done : open).push(row);
    const shown = [...open.slice(0, recent), ...done.slice(0, Math.max(0, recent - open.length))];
    return { total: open.length + done.length, unfinished: open.length, recent: shown };
  }

  page({ state, search, offset, limit }: BatchQuery): BatchPage {
    const wanted = search?.toLowerCase();
    const rows: BatchRow[] = [];
    let total = 0;
    for (const row of this.all()) {
      if (state !== undefined && !(state === 'unfinished' ? !isFinished(row) : row.status === state))
        continue;
      if (wanted !== undefined && !row.id.includes(wanted) && !row.input.toLowerCase().includes(wanted))
        continue;
      if (total >= offset && rows.length < limit) rows.push(row);
      total += 1;
    }
    return { total, offset, rows };
  }

  private *all(): Generator<BatchRow> {
    for (const id of this.ids) {
      const row = this.rows.get(id);
      if (row !== undefined) yield row;
    }
  }

  private async read(): Promise<void> {
    const ids = await this.redis.zrevrange(redisKeys.batches(), '0', '-1');
    const present = new Set(ids);
    for (const id of this.rows.keys()) if (!present.has(id)) this.forget(id);
    const changing = ids.filter((id) => {
      const row = this.rows.get(id);
      return row === undefined || !isFinished(row);
    });
    for (const chunk of chunks(changing, AT_ONCE)) {
      const pipeline = this.redis.pipeline();
      for (const id of chunk) pipeline.hgetall(redisKeys.batch(id));
      const replies = (await pipeline.exec()) ?? [];
      chunk.forEach((id, i) => {
        const [error, fields] = replies[i] ?? [null, {}];
        if (error !== null) throw error;
        this.take(id, fields as Record<string, string>);
      });
    }
    this.ids = ids;
    this.refreshedAt = performance.now();
  }

  private take(id: string, fields: Record<string, string>): void {
    if (fields['total'] === undefined) {
      this.forget(id);
      return;
    }
    const { status, created_at, completed_at, expires_at, request_counts, input } = statusFromFields(
      id,
      fields,
    );
    const row: BatchRow = {
      id,
      input,
      status,
      created_at,
      completed_at,
      expires_at,
      counts: request_counts,
      rate: null,
      eta: null,
    };
    const ended = request_counts.total - request_counts.pending;
    if (completed_at !== null) {
      this.paces.delete(id);
      row.rate = request_counts.total / Math.max(1, completed_at - created_at);
    } else {
      const pace = this.paces.get(id) ?? new Pace(created_at * 1000);
      this.paces.set(id, pace);
      row.rate = pace.rate(ended, Date.now());
      row.eta = row.rate === null || row.rate === 0 ? null : request_counts.pending / row.rate;
    }
    this.rows.set(id, row);
  }

  private forget(id: string): void {
    this.rows.delete(id);
    this.paces.delete(id);
  }
}
