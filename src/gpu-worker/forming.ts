/** A rank's way into a cohort: from a new process to sealed membership of a generation. */
import type { Redis } from 'ioredis';
import type { Config } from '../platform/config.js';
import type { Logger } from '../platform/logger.js';
import { Control } from './control.js';
import { Heartbeat, type HeartbeatOptions } from './heartbeat.js';
import type { AbortCause, Message } from './messages.js';
import type { Machine } from './machine.js';
import type { Members } from './protocol-types.js';
import type { Announcement, Rendezvous, Roster } from './rendezvous.js';

/** Heartbeat and messages of one generation. */
export interface Session {
  generation: string;
  heartbeat: Heartbeat;
  control: Control;
  close: () => Promise<void>;
}

export interface Membership {
  session: Session;
  announcement: Announcement;
  roster: Roster;
}

export interface FormingOptions {
  config: Config;
  redis: Redis;
  /** A connection of its own for each generation's blocking reads. */
  openReader: () => Redis;
  machine: Machine;
  rendezvous: Rendezvous;
  /** Token ids that end an answer; only the leader knows them. */
  stopTokens: number[];
  logger: Logger;
  report: HeartbeatOptions['report'];
  /** Sees every message, before the protocol does. */
  onMessage: (message: Message) => void;
  onBeat: (generation: string) => Promise<unknown>;
  /** Sees every session that is opened, so that it is closed whatever happens next. */
  onSession: (session: Session) => void;
}

export async function form(options: FormingOptions, signal: AbortSignal): Promise<Membership> {
  const { config, machine, rendezvous } = options;
  if (config.rank === 0) {
    const { generation, announcement } = await rendezvous.open(options.stopTokens, signal);
    const session = openSession(options, generation);
    machine.dispatch({ type: 'opened', generation });
    return { session, announcement, roster: await rendezvous.gather(generation, signal) };
  }
  let session: Session | undefined;
  const joined = await rendezvous.join((generation) => {
    // A generation that was superseded before its seal: nothing was sent in it.
    void session?.close();
    session = openSession(options, generation);
    machine.dispatch({ type: 'opened', generation });
  }, signal);
  if (session === undefined) throw new Error('joined without a session');
  return { session, announcement: joined.announcement, roster: joined.roster };
}

export function incarnations(roster: Roster): Members {
  return Object.fromEntries(Object.entries(roster).map(([rank, { incarnation }]) => [rank, incarnation]));
}

function openSession(options: FormingOptions, generation: string): Session {
  const { config, redis, machine, logger } = options;
  const common = {
    redis,
    cohort: config.cohort,
    generation,
    rank: config.rank,
    logger: logger.child({ generation }),
  };
  const onFault = (cause: AbortCause) => {
    const { state } = machine;
    // A forming follower just goes to the next generation; a stale session says nothing at all.
    const stale = state.generation !== generation;
    if (stale || (state.phase === 'forming' && config.rank > 0 && cause.code === 'SUPERSEDED')) return;
    machine.dispatch({ type: 'fault', cause });
  };
  const heartbeat = new Heartbeat({
    ...common,
    ranks: config.ranks,
    timings: config.timings,
    report: options.report,
    onFault,
    onBeat: () => options.onBeat(generation),
  });
  const control = new Control({
    ...common,
    reader: options.openReader(),
    onMessage: (message) => {
      options.onMessage(message);
      machine.dispatch({ type: 'message', message });
    },
  });
  heartbeat.start();
  control.start();
  let closed: Promise<void> | undefined;
  const session: Session = {
    generation,
    heartbeat,
    control,
    close: () => (closed ??= Promise.all([heartbeat.stop(), control.stop()]).then(() => undefined)),
  };
  options.onSession(session);
  return session;
}
