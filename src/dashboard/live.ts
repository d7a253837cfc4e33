/**
 * What is shown live, as server-sent events: one reader of Redis for all pages, at most two messages a
 * second to each, and in them only the keys whose values changed. A page that does not keep up gets the
 * newest values when it does.
 */
import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { readActivity } from '../batch/activity.js';
import { listCohorts, readRanks } from '../batch/cohorts.js';
import { readQueue } from '../batch/queue-state.js';
import type { BatchDeps } from '../batch/queues.js';
import { describeError } from '../platform/errors.js';
import type { LiveMessage, LiveValues } from './api.js';
import type { BatchIndex } from './batch-index.js';
import { ratesOf } from './rates.js';

const TICK_MS = 500;
/** Every so many ticks: batches, activity. */
const BATCH_TICKS = 2;
const ACTIVITY_TICKS = 4;
const RECENT = 12;
/** Batches that a page may follow. */
export const MAX_WATCHED = 100;
const MAX_PAGES = 200;
/** Keeps proxies from closing a silent stream. */
const PING_MS = 15_000;

interface Page {
  out: ServerResponse;
  watched: readonly string[];
  /** Keys that it has not been told of. */
  pending: Map<string, unknown>;
  /** The connection's buffer is full. */
  blocked: boolean;
  saidAt: number;
  isValid: () => boolean;
}

export class Live {
  private readonly pages = new Set<Page>();
  private values = new Map<string, { value: unknown; json: string }>();
  private running: Promise<void> | undefined;
  private readonly stopping = new AbortController();
  private ticks = 0;

  constructor(
    private readonly deps: BatchDeps,
    private readonly index: BatchIndex,
  ) {}

  /** Takes over a response. `isValid`: whether who asked may still see it. */
  open(out: ServerResponse, watched: readonly string[], isValid: () => boolean): void {
    if (this.stopping.signal.aborted || this.pages.size >= MAX_PAGES) {
      out.writeHead(503, { 'content-type': 'text/plain' }).end('too many pages are open\n');
      return;
    }
    out.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    });
    const known = [...this.values].filter(
      ([key]) => !key.startsWith('batch:') || watched.includes(key.slice(6)),
    );
    const pending = new Map(known.map(([key, { value }]) => [key, value]));
    const page: Page = { out, watched, pending, blocked: false, saidAt: 0, isValid };
    this.pages.add(page);
    out.once('close', () => this.pages.delete(page));
    out.on('error', () => this.pages.delete(page));
    out.on('drain', () => (page.blocked = false));
    this.say(page);
    this.running ??= this.run().finally(() => (this.running = undefined));
  }

  /** Ends every stream; the pages come back by themselves when there is a server again. */
  async close(): Promise<void> {
    this.stopping.abort();
    for (const { out } of this.pages) out.end();
    await this.running;
  }

  private async run(): Promise<void> {
    while (this.pages.size > 0 && !this.stopping.signal.aborted) {
      const begun = performance.now();
      await this.tick();
      const rest = Math.max(50, TICK_MS - (performance.now() - begun));
      await sleep(rest, undefined, { signal: this.stopping.signal }).catch(() => undefined);
    }
    // Nobody looks any more, so what is known grows old.
    this.values = new Map();
    this.ticks = 0;
  }

  private async tick(): Promise<void> {
    try {
      await this.read();
      this.set('problem', null);
    } catch (error) {
      this.set('problem', describeError(error).message);
    }
    this.ticks += 1;
    for (const page of this.pages) this.say(page);
  }

  private async read(): Promise<void> {
    const { redis } = this.deps;
    this.set('queue', await readQueue(redis));
    await this.readCohorts();
    if (this.ticks % BATCH_TICKS === 0) {
      await this.index.refresh();
      this.set('batches', this.index.summary(RECENT));
      for (const id of this.watched()) this.set(`batch:${id}`, this.index.get(id) ?? null);
    }
    if (this.ticks % ACTIVITY_TICKS === 0) {
      const activity = await readActivity(redis, 15, 90);
      this.set('rates', ratesOf(activity));
      this.set('points', activity.points.slice(-2));
    }
  }

  private async readCohorts(): Promise<void> {
    const { redis } = this.deps;
    const seen = new Set<string>();
    const cohorts = await listCohorts(redis);
    await Promise.all(
      cohorts.map(async (cohort) => {
        this.set(`cohort:${cohort.name}`, cohort);
        seen.add(`cohort:${cohort.name}`);
        (await readRanks(redis, cohort)).forEach((beat, rank) => {
          this.set(`rank:${cohort.name}:${rank}`, beat);
          seen.add(`rank:${cohort.name}:${rank}`);
        });
      }),
    );
    for (const key of [...this.values.keys()]) {
      if (!/^(cohort|rank):/.test(key) || seen.has(key)) continue;
      this.set(key as keyof LiveValues, null);
      this.values.delete(key);
    }
  }

  private watched(): Set<string> {
    return new Set([...this.pages].flatMap(({ watched }) => watched));
  }

  private set<K extends keyof LiveValues>(key: K, value: LiveValues[K]): void {
    const json = JSON.stringify(value);
    if (this.values.get(key)?.json === json) return;
    this.values.set(key, { value, json });
    for (const page of this.pages) {
      if (!key.startsWith('batch:') || page.watched.includes(key.slice('batch:'.length)))
        page.pending.set(key, value);
    }
  }

  private say(page: Page): void {
    if (!page.isValid()) {
      page.out.end();
      return;
    }
    if (page.blocked) return;
    const now = Date.now();
    if (page.pending.size === 0) {
      if (now - page.saidAt > PING_MS) {
        page.saidAt = now;
        page.blocked = !page.out.write(': still here\n\n');
      }
      return;
    }
    const message: LiveMessage = { now, patch: Object.fromEntries(page.pending) };
    page.pending.clear();
    page.saidAt = now;
    page.blocked = !page.out.write(`data: ${JSON.stringify(message)}\n\n`);
  }
}
