/**
 * Forming a cohort through Redis. The leader draws a generation and announces it; followers register
 * under their rank, first come; when all are there the leader seals the list. What the messages mean
 * for a rank's state is protocol.ts's affair: this file reads and writes Redis.
 */
import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import { z } from 'zod';
import { ConfigError, InfrastructureError } from '../platform/errors.js';
import { cohortKeys } from '../platform/keys.js';
import type { Timings } from '../platform/timings.js';
import { execAll } from './redis-exec.js';
import { now, pause } from './wait.js';

/** What must be equal on all ranks, or their numbers would not be one model's. */
const fingerprint = z.strictObject({
  ranks: z.int(),
  model: z.string(),
  heads: z.string().nullable(),
  tokenizer: z.string(),
  backend: z.string(),
  version: z.string(),
});
export type Fingerprint = z.infer<typeof fingerprint>;

const announcement = z.strictObject({
  fingerprint,
  /** Proves membership when the ranks connect to each other. */
  secret: z.string(),
  /** Token ids that end an answer, so that followers need no tokenizer. */
  stop: z.array(z.int()),
});
export type Announcement = z.infer<typeof announcement>;

const member = z.strictObject({
  incarnation: z.string(),
  address: z.string(),
  pid: z.int(),
  /** Measured by this rank at its start. The seal shows all ranks the same numbers to plan with. */
  rates: z.strictObject({ rowSeconds: z.number().positive(), pairSeconds: z.number().positive() }),
});
export type Member = z.infer<typeof member>;
const seal = z.record(z.string(), member);
export type Roster = z.infer<typeof seal>;

const POLL_MS = 50;
/** Forming keys outlive every forming and do not pile up. */
const KEEP_MS = 24 * 3600 * 1000;
const REFUSAL = 'refusal:';

export interface RendezvousOptions {
  redis: Redis;
  cohort: string;
  rank: number;
  ranks: number;
  timings: Timings;
  fingerprint: Fingerprint;
  self: Member;
}

export class Rendezvous {
  private readonly keys;

  constructor(private readonly options: RendezvousOptions) {
    this.keys = cohortKeys(options.cohort);
  }

  /**
   * Leader: makes a new generation the current one.
   * @throws ConfigError while another leader of this cohort is alive.
   */
  async open(
    stop: number[],
    signal: AbortSignal,
  ): Promise<{ generation: string; announcement: Announcement }> {
    const { redis, self } = this.options;
    await this.waitForPredecessor(signal);
    const counter = await redis.incr(this.keys.generation);
    const generation = `${counter}.${self.incarnation}`;
    const secret = randomBytes(32).toString('hex');
    const announced = { fingerprint: this.options.fingerprint, secret, stop };
    await execAll(
      redis
        .multi()
        .hset(this.keys.rendezvous(generation), 'announcement', JSON.stringify(announced))
        .pexpire(this.keys.rendezvous(generation), KEEP_MS)
        .hset(this.keys.members(generation), '0', JSON.stringify(self))
        .pexpire(this.keys.members(generation), KEEP_MS)
        .set(this.keys.heartbeat(generation, 0), 'open', 'PX', this.options.timings.heartbeatExpiry)
        .set(this.keys.current, generation),
    );
    return { generation, announcement: announced };
  }

  /**
   * A leader that was killed leaves a heartbeat for as long as it takes to expire: by this rank's clock as well, for Redis
   * whose own clock was put back keeps it for hours.
   */
  private async waitForPredecessor(signal: AbortSignal): Promise<void> {
    const { redis, cohort, timings } = this.options;
    const end = now() + 3 * timings.heartbeatExpiry;
    let seen: { beat: string; since: number } | undefined;
    for (;;) {
      const current = await redis.get(this.keys.current);
      const beat = current === null ? null : await redis.get(this.keys.heartbeat(current, 0));
      if (beat === null) return;
      if (beat !== seen?.beat) seen = { beat, since: now() };
      if (now() - seen.since > timings.heartbeatExpiry) return;
      if (now() > end) {
        throw new ConfigError(
          `cohort ${cohort} has a living leader (generation ${current}); stop it, or name another with --cohort`,
        );
      }
      await pause(POLL_MS, signal);
    }
  }

  /**
   * Leader: polls until all members are there.
   * @throws ConfigError when a rank refused to join, with its words.
   */
  async gather(generation: string, signal: AbortSignal): Promise<Roster> {
    const { redis, ranks } = this.options;
    for (;;) {
      const [found, notes] = await Promise.all([
        redis.hgetall(this.keys.members(generation)),
        redis.hgetall(this.keys.rendezvous(generation)),
      ]);
      const refusal = Object.entries(notes).find(([field]) => field.startsWith(REFUSAL));
      if (refusal !== undefined) throw new ConfigError(refusal[1]);
      if (Object.keys(found).length >= ranks) {
        return Object.fromEntries(
          Object.entries(found).map(([rank, value]) => [rank, member.parse(JSON.parse(value))]),
        );
      }
      await pause(POLL_MS, signal);
    }
  }

  async writeSeal(generation: string, roster: Roster): Promise<void> {
    await this.options.redis.set(this.keys.seal(generation), JSON.stringify(roster), 'PX', KEEP_MS);
  }

  /**
   * Follower: registers in the current generation, and in the next one when that is superseded
   * before its seal. `onOpened` tells each generation it registered in.
   * @throws ConfigError when this rank does not fit the cohort; InfrastructureError after the join deadline.
   */
  async join(
    onOpened: (generation: string) => void,
    signal: AbortSignal,
  ): Promise<{ generation: string; announcement: Announcement; roster: Roster }> {
    const { rank, cohort, timings } = this.options;
    const end = now() + timings.join;
    let reason = 'no leader announced a generation';
    while (now() < end) {
      const generation = await this.liveGeneration();
      if (generation === null) {
        await pause(POLL_MS, signal);
        continue;
      }
      const registered = await this.register(generation);
      if (typeof registered === 'string') {
        reason = registered;
        await pause(POLL_MS, signal);
        continue;
      }
      onOpened(generation);
      const roster = await this.awaitSeal(generation, end, signal);
      if (roster !== null) return { generation, announcement: registered, roster };
      reason = `generation ${generation} was not sealed`;
    }
    throw new InfrastructureError(
      'JOIN_TIMEOUT',
      `rank ${rank} could not join cohort ${cohort} within ${timings.join} ms: ${reason}`,
    );
  }

  /** The current generation, when its leader is alive. */
  private async liveGeneration(): Promise<string | null> {
    const { redis } = this.options;
    const current = await redis.get(this.keys.current);
    if (current === null || !(await redis.exists(this.keys.heartbeat(current, 0)))) return null;
    return current;
  }

  /** The announcement, or why this generation cannot be joined. */
  private async register(generation: string): Promise<Announcement | string> {
    const { redis, rank, cohort, self, ranks } = this.options;
    const text = await redis.hget(this.keys.rendezvous(generation), 'announcement');
    if (text === null) return `generation ${generation} has no announcement`;
    const announced = announcement.parse(JSON.parse(text));
    const difference = compare(announced.fingerprint, this.options.fingerprint);
    if (difference !== null) {
      const message = `rank ${rank} does not fit cohort ${cohort}: ${difference}; start all its ranks alike`;
      await redis.hset(this.keys.rendezvous(generation), REFUSAL + String(rank), message);
      throw new ConfigError(message);
    }
    const key = this.keys.members(generation);
    if ((await redis.hsetnx(key, String(rank), JSON.stringify(self))) === 1) return announced;
    const taken = await redis.hget(key, String(rank));
    if (taken === JSON.stringify(self)) return announced;
    const holder = taken === null ? 'unknown' : `pid ${member.parse(JSON.parse(taken)).pid}`;
    return `rank ${rank} of ${ranks} is taken by another process (${holder})`;
  }

  /** null: superseded, or the deadline passed. */
  private async awaitSeal(generation: string, end: number, signal: AbortSignal): Promise<Roster | null> {
    const { redis } = this.options;
    while (now() < end) {
      const text = await redis.get(this.keys.seal(generation));
      if (text !== null) return seal.parse(JSON.parse(text));
      if ((await this.liveGeneration()) !== generation) return null;
      await pause(POLL_MS, signal);
    }
    return null;
  }
}

function compare(leader: Fingerprint, own: Fingerprint): string | null {
  const short = (value: string | number | null) =>
    typeof value === 'string' && /^[0-9a-f]{64}$/.test(value) ? value.slice(0, 12) : String(value);
  const names = Object.keys(own) as (keyof Fingerprint)[];
  const lines = names
    .filter((name) => leader[name] !== own[name])
    .map((name) => `${name} is ${short(own[name])} here and ${short(leader[name])} at the leader`);
  return lines.length === 0 ? null : lines.join(', ');
}
