/** A rank's life in one generation: the protocol wired to Redis, BullMQ and the engine. */
import type { Redis } from 'ioredis';
import type { RankReport } from '../contracts/cohort.js';
import type { ModelDigests } from '../contracts/manifest.js';
import type { RankTimes } from '../contracts/timeline.js';
import type { Config } from '../platform/config.js';
import { describeError } from '../platform/errors.js';
import type { Logger } from '../platform/logger.js';
import type { ObjectStore } from '../platform/object-store.js';
import { createRedis } from '../platform/redis.js';
import { reach } from '../platform/test-points.js';
import { VERSION } from '../platform/version.js';
import { stateName, writeCohortState } from './cohort-state.js';
import type { EngineLike, EngineProgress, Layout, LayoutRequest, ModelFacts } from './engine-like.js';
import { form, incarnations, type Membership, type Session } from './forming.js';
import { buildResult } from './item-result.js';
import { Leader } from './leader.js';
import { Machine, type Handlers } from './machine.js';
import type { AbortCause, Body, Message, Ticket } from './messages.js';
import { initialState, type Input, type State } from './protocol-types.js';
import { Rank } from './rank.js';
import { Rendezvous, type Fingerprint, type Member } from './rendezvous.js';
import { describeRank } from './rank-report.js';
import { Usage } from './usage.js';
import { deferred, within } from './wait.js';

export interface ServeOptions {
  config: Config;
  /** For commands, each with a deadline. */
  redis: Redis;
  store: ObjectStore;
  engine: EngineLike;
  planLayout: (request: LayoutRequest) => Layout;
  facts: ModelFacts;
  digests: ModelDigests;
  /** The leader's. */
  tokenizer:
    { stop: readonly number[]; decodeAnswer: (ids: readonly number[]) => Promise<string> } | undefined;
  logger: Logger;
  self: Member;
  fingerprint: Fingerprint;
  openReader: () => Redis;
  /** Told of every state of this rank. */
  onState?: (state: State) => void;
}

/** Returns true when the cohort was closed in an orderly way, false when it was lost. */
export async function serve(options: ServeOptions, signal: AbortSignal): Promise<boolean> {
  const life = new Life(options);
  const onSignal = () => {
    life.close();
  };
  signal.addEventListener('abort', onSignal);
  try {
    if (signal.aborted) return true;
    return await life.live();
  } finally {
    signal.removeEventListener('abort', onSignal);
    await life.release();
  }
}

/** What log lines of a run have beside cohort, rank and generation. */
const namesOf = (ticket: Ticket | null) =>
  ticket === null ? {} : { batch: ticket.batch, item: ticket.item, epoch: ticket.epoch };

class Life {
  private readonly ended = deferred<boolean>();
  /** Ends the waits of forming when there is nothing to wait for any more. */
  private readonly over = new AbortController();
  private readonly sessions: Session[] = [];
  private readonly machine: Machine;
  private readonly rank: Rank;
  private readonly rendezvous: Rendezvous;
  private bullmq: Redis | undefined;
  private leader: Leader | undefined;
  private membership: Membership | undefined;
  private readonly usage: Usage;
  private progress: EngineProgress | null = null;
  /** What followers measured in the run in hand (leader). */
  private readonly followerTimes = new Map<number, RankTimes>();

  constructor(private readonly options: ServeOptions) {
    const { config, redis, engine, logger, self } = options;
    const { cohort, rank, ranks, timings } = config;
    const dispatch = (input: Input) => {
      this.machine.dispatch(input);
    };
    this.machine = new Machine(
      initialState(rank, ranks, self.incarnation),
      this.handlers(),
      timings,
      (state) => {
        logger.debug({ generation: state.generation, phase: state.phase, ...namesOf(state.ticket) }, 'state');
        if (state.phase !== 'running') this.progress = null;
        if (state.closing) this.leader?.drain();
        options.onState?.(state);
        void this.publishState();
      },
    );
    const { store, facts, digests, planLayout } = options;
    this.rank = new Rank({
      engine,
      context: { store, rank, ranks, facts, digests, planLayout },
      timings,
      logger,
      dispatch,
      comm: { comm: config.comm, nccl: config.nccl },
      measurePhases: !facts.backend.startsWith('cuda'),
      onProgress: (progress) => {
        this.progress = progress;
        this.leader?.progress(progress);
      },
    });
    this.usage = new Usage(facts.backend, config);
    this.rendezvous = new Rendezvous({
      redis,
      cohort,
      rank,
      ranks,
      timings,
      fingerprint: options.fingerprint,
      self,
    });
  }

  async live(): Promise<boolean> {
    const { config, machine, rendezvous } = this;
    try {
      this.membership = await form(
        {
          config,
          redis: this.options.redis,
          openReader: this.options.openReader,
          machine,
          rendezvous,
          stopTokens: [...(this.options.tokenizer?.stop ?? [])],
          logger: this.options.logger,
          report: () => this.report(),
          onMessage: (message) => {
            this.collectTimes(message);
          },
          onBeat: () => this.publishState(),
          onSession: (session) => this.sessions.push(session),
        },
        this.over.signal,
      );
    } catch (error) {
      // The protocol gave up first, and says why.
      if (this.over.signal.aborted) return this.ended.promise;
      throw error;
    }
    const { session, roster } = this.membership;
    session.heartbeat.watch();
    if (config.rank === 0) this.openLeader(session.generation);
    const members = incarnations(roster);
    machine.dispatch({
      type: config.rank === 0 ? 'members' : 'seal',
      generation: session.generation,
      members,
    });
    return this.ended.promise;
  }

  close(): void {
    this.machine.dispatch({ type: 'close' });
  }

  /** Bounded: whatever hangs here ends with the process. */
  async release(): Promise<void> {
    this.over.abort();
    this.machine.close();
    const all = async () => {
      await this.leader?.close();
      await this.publishState();
      await Promise.all(this.sessions.map((session) => session.close()));
    };
    this.usage.close();
    await within(all(), this.config.timings.abort, undefined);
    this.bullmq?.disconnect();
  }

  private get config(): Config {
    return this.options.config;
  }

  private get session(): Session | undefined {
    return this.sessions.at(-1);
  }

  private handlers(): Handlers {
    return {
      seal: () => {
        const { membership } = this;
        if (membership === undefined) return;
        const { session, roster } = membership;
        this.start('seal', this.rendezvous.writeSeal(session.generation, roster));
      },
      connect: () => {
        const { membership } = this;
        if (membership === undefined) return;
        const { session, roster, announcement } = membership;
        reach('forming');
        this.rank.connect(session.generation, roster, announcement.secret, announcement.stop);
      },
      send: ({ body }) => this.session?.control.send(this.withTimes(body)),
      claims: ({ open }) => this.leader?.claims(open),
      prepare: ({ ticket }) => {
        reach('prepare');
        this.followerTimes.clear();
        this.rank.prepare(ticket);
      },
      confirm: ({ ticket }) => {
        if (this.leader !== undefined) this.start('confirm', this.leader.confirm(ticket));
      },
      run: ({ ticket }) => {
        reach('go');
        this.rank.run(ticket);
      },
      drop: ({ ticket }) => {
        this.rank.drop(ticket);
      },
      stop: ({ ticket }) => {
        this.rank.stop(ticket);
      },
      settle: ({ ticket, settlement }) => this.leader?.settle(ticket, settlement),
      abort: ({ cause }) => {
        void this.abort(cause);
      },
      exit: ({ clean }) => {
        this.over.abort();
        this.ended.resolve(clean);
      },
    };
  }

  /** Out of every call, the item given back: then this rank may leave. The protocol's timer is the limit. */
  private async abort(cause: AbortCause): Promise<void> {
    const { generation, ticket } = this.machine.state;
    const { code, message: reason, rank: rank_at_fault } = cause;
    this.options.logger.error({ generation, ...namesOf(ticket), code, reason, rank_at_fault }, 'cohort lost');
    this.rank.abort(cause);
    this.over.abort();
    await Promise.allSettled([
      this.rank.idle(),
      this.leader?.close() ?? Promise.resolve(),
      this.session?.control.recordAbort(cause) ?? Promise.resolve(),
    ]);
    this.machine.dispatch({ type: 'left' });
  }

  private start(what: string, work: Promise<unknown>): void {
    work.catch((error: unknown) => {
      const { code, message } = describeError(error);
      this.machine.dispatch({
        type: 'fault',
        cause: { code, message: `${what}: ${message}`, rank: this.config.rank },
      });
    });
  }

  private openLeader(generation: string): void {
    const { config, redis, logger, tokenizer, facts } = this.options;
    if (tokenizer === undefined) throw new Error('a leader needs a tokenizer');
    this.bullmq = createRedis(config.redisUrl, 'bullmq');
    this.leader = new Leader({
      config,
      redis,
      bullmq: this.bullmq,
      logger: logger.child({ generation }),
      generation,
      dispatch: (input) => {
        this.machine.dispatch(input);
      },
      work: (run) => this.rank.work(run),
      buildResult: (prepared, output, epoch, times) =>
        buildResult(
          prepared,
          output,
          {
            cohort: config.cohort,
            generation: Number.parseInt(generation, 10),
            epoch,
            backend: facts.backend,
            comm: this.rank.comm,
            version: VERSION,
          },
          tokenizer.decodeAnswer,
          { ...times, ranks: this.allTimes() },
        ),
    });
    this.leader.start();
  }

  private report(): Omit<RankReport, 'beat'> {
    return { at: Date.now(), ...describeRank(this.machine.state, this.progress), usage: this.usage.sample() };
  }

  /** A follower's measurements travel with the message that its run is over. */
  private withTimes(body: Body): Body {
    if (body.type !== 'finished') return body;
    const times = this.rank.times(body.ticket.run);
    return times === undefined ? body : { ...body, times };
  }

  private collectTimes({ body, from, generation }: Message): void {
    const { state } = this.machine;
    if (body.type !== 'finished' || body.times === undefined || generation !== state.generation) return;
    if (body.ticket.run === state.ticket?.run) this.followerTimes.set(from, { ...body.times, rank: from });
  }

  private allTimes(): RankTimes[] {
    const own = this.rank.times(this.machine.state.lastRun);
    const all = [...(own === undefined ? [] : [own]), ...this.followerTimes.values()];
    return all.sort((a, b) => a.rank - b.rank);
  }

  /** For people; a state that Redis does not take is written with the next heartbeat. */
  private async publishState(): Promise<void> {
    const { config, redis, facts, logger } = this.options;
    const { state } = this.machine;
    if (config.rank !== 0 || state.generation === null) return;
    try {
      await writeCohortState(redis, config.cohort, {
        state: stateName(state),
        generation: state.generation,
        ranks: config.ranks,
        backend: facts.backend,
        model: config.modelDir,
      });
    } catch (error) {
      logger.debug({ err: error }, 'state not written');
    }
  }
}
