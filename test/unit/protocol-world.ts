/**
 * A small world for the cohort protocol: ranks that run the real reducer, a network that loses, doubles
 * and reorders messages, a Redis that can forget, and an engine whose collectives end only when every
 * rank is in them. The invariants are checked at every effect.
 */
import type { Message, RunEnd, Ticket } from '../../src/gpu-worker/messages.js';
import { initialState, reduce as real } from '../../src/gpu-worker/protocol.js';
import type { Effect, Input, State, Step, Timer } from '../../src/gpu-worker/protocol-types.js';

/** The reducer, or one with a guard removed. */
export type Reduce = (state: State, input: Input) => Step;

export interface Process {
  rank: number;
  state: State;
  alive: boolean;
  exit: boolean | null;
  /** Things that the world owes this rank, as inputs. */
  owed: Input[];
  timers: Map<Timer, number>;
  abortTimerSet: boolean;
  claimsOpen: boolean;
}

interface Run {
  prepared: Set<number>;
  started: Set<number>;
  stop: boolean;
  end: RunEnd | null;
}

const key = (generation: string | null, { run, batch, item, epoch }: Ticket) =>
  `${generation}/${run}/${batch}/${item}/${epoch}`;

const lives = (process: Process): boolean => process.alive && process.exit === null;

export class World {
  readonly processes: Process[] = [];
  readonly generations: string[] = [];
  readonly settlements = new Map<string, number>();
  /** Claims and the leader that waits for their settlement. */
  readonly claimed: { name: string; leader: Process }[] = [];
  completed = 0;
  private counter = 0;
  private lives = 0;
  private epoch = 0;
  private current: string | null = null;
  private members = new Map<string, Record<number, string>>();
  private seals = new Map<string, Record<number, string>>();
  private ready = new Map<string, Set<number>>();
  private runs = new Map<string, Run>();
  private wire: { to: number; message: Message }[] = [];

  /** Inputs that came late: a timer that had fired when it was cleared, news of a run that is over. */
  private late: { process: Process; input: Input }[] = [];

  constructor(
    readonly ranks: number,
    private readonly reduce: Reduce = real,
  ) {
    for (let rank = 0; rank < ranks; rank++) this.processes.push(this.newProcess(rank));
  }

  private newProcess(rank: number): Process {
    const incarnation = `life${++this.lives}`;
    return {
      rank,
      state: initialState(rank, this.ranks, incarnation),
      alive: true,
      exit: null,
      owed: [],
      timers: new Map(),
      abortTimerSet: false,
      claimsOpen: false,
    };
  }

  // ---- what can happen -------------------------------------------------------------------------

  /** Redis: draws generations, registers members, shows the seal. */
  rendezvous(rank: number): void {
    const process = this.at(rank);
    const { state } = process;
    if (state.phase !== 'forming' || !lives(process)) return;
    if (rank === 0 && state.generation === null) {
      const generation = `${++this.counter}.${state.incarnation}`;
      this.check(!this.generations.includes(generation), 'I6', `generation ${generation} was drawn twice`);
      this.generations.push(generation);
      this.current = generation;
      this.members.set(generation, { 0: state.incarnation });
      this.input(process, { type: 'opened', generation });
    } else if (rank > 0 && this.current !== null && state.generation !== this.current) {
      const members = this.members.get(this.current);
      if (members === undefined || members[rank] !== undefined) return;
      members[rank] = state.incarnation;
      this.input(process, { type: 'opened', generation: this.current });
    } else if (state.generation !== null) {
      const { generation } = state;
      const members = { ...this.members.get(generation) };
      if (rank === 0) this.input(process, { type: 'members', generation, members });
      const seal = this.seals.get(generation);
      if (rank > 0 && seal !== undefined) this.input(process, { type: 'seal', generation, members: seal });
    }
  }

  /** One of the things that a rank waits for comes about. */
  local(rank: number, pick: number): void {
    const process = this.at(rank);
    if (process.owed.length === 0) return;
    const [input] = process.owed.splice(pick % process.owed.length, 1);
    if (input !== undefined) this.input(process, input);
  }

  engine(rank: number, fails: boolean): void {
    const process = this.at(rank);
    const { ticket, phase, generation } = process.state;
    if (phase !== 'running' || ticket === null || !lives(process)) return;
    const run = this.runs.get(key(generation, ticket));
    if (run === undefined || run.started.size < this.ranks) return; // it waits in a collective
    // Every rank comes out the same way: that is what the collectives are for.
    const failure = { kind: 'document', code: 'ENGINE_TOO_LONG', message: 'too long' } as const;
    run.end ??= run.stop ? 'stopped' : fails ? failure : 'done';
    this.input(process, { type: 'engineEnded', run: ticket.run, end: run.end });
  }

  deliver(pick: number, keep: boolean): void {
    if (this.wire.length === 0) return;
    const index = pick % this.wire.length;
    const envelope = this.wire[index];
    if (envelope === undefined) return;
    if (!keep) this.wire.splice(index, 1);
    const process = this.at(envelope.to);
    const { generation } = process.state;
    const before = process.state;
    const effects = this.input(process, { type: 'message', message: envelope.message });
    if (envelope.message.generation !== generation) {
      this.check(process.state === before && effects === 0, 'I6', 'a foreign generation changed something');
    }
  }

  lose(pick: number): void {
    if (this.wire.length > 0) this.wire.splice(pick % this.wire.length, 1);
  }

  timeout(rank: number, pick: number): void {
    const process = this.at(rank);
    const names = [...process.timers.keys()];
    const timer = names[pick % names.length];
    if (timer === undefined) return;
    const run = process.timers.get(timer) ?? 0;
    process.timers.delete(timer);
    this.input(process, { type: 'timeout', timer, run });
  }

  /** `sound`: one that no rank refuses. */
  claim(sound = false): void {
    const leader = this.at(0);
    if (!leader.claimsOpen || !lives(leader)) return;
    while (sound && ((this.epoch + 1) % 11 >= 7 || (this.epoch + 1) % 13 === 12)) this.epoch++;
    const claim = { batch: 'b', item: this.epoch % 3, epoch: ++this.epoch };
    this.claimed.push({ name: `${claim.item}/${claim.epoch}`, leader });
    this.input(leader, { type: 'claimed', ...claim });
  }

  stop(): void {
    const leader = this.at(0);
    this.input(leader, { type: 'stop', run: leader.state.ticket?.run ?? 0 });
  }

  close(rank: number): void {
    this.input(this.at(rank), { type: 'close' });
  }

  kill(rank: number): void {
    this.at(rank).alive = false;
  }

  /** The supervisor: a rank that ended is started anew. */
  restart(rank: number): void {
    const process = this.at(rank);
    if (process.alive && process.exit === null) return;
    this.processes[rank] = this.newProcess(rank);
  }

  /** Heartbeats: a dead or gone rank is silent, a newer generation shows. */
  heartbeat(rank: number, pick: number): void {
    const process = this.at(rank);
    const { state } = process;
    if (!process.alive || state.generation === null || state.phase === 'forming') return;
    if (this.current !== state.generation) {
      this.fault(process, 'SUPERSEDED');
      return;
    }
    const sealed = this.seals.get(state.generation) ?? {};
    const other = this.at(pick % this.ranks);
    const silent = !other.alive || other.exit !== null || other.state.incarnation !== sealed[other.rank];
    if (silent && other.rank !== rank) this.fault(process, 'RANK_SILENT');
  }

  /** A clock that runs ahead: all its timers are over at once, and whoever it looks at is silent too long. */
  skew(rank: number): void {
    const process = this.at(rank);
    for (let i = process.timers.size; i > 0; i--) this.timeout(rank, 0);
    if (process.state.phase !== 'forming') this.fault(process, 'RANK_SILENT');
  }

  /** Something that this process has been told already reaches it again. */
  again(pick: number): void {
    const found = this.late[pick % this.late.length];
    if (found !== undefined) this.input(found.process, found.input);
  }

  /** Redis loses its last writes: also the counter's. */
  forget(): void {
    this.counter = Math.max(0, this.counter - 2);
    this.current = null;
  }

  // ---- the rules of the world ------------------------------------------------------------------

  at(rank: number): Process {
    const process = this.processes[rank % this.ranks];
    if (process === undefined) throw new Error('no such rank');
    return process;
  }

  private fault(process: Process, code: string): void {
    this.input(process, { type: 'fault', cause: { code, message: code, rank: null } });
  }

  private input(process: Process, input: Input): number {
    if (!process.alive || process.exit !== null) return 0;
    if (input.type === 'prepareEnded' || input.type === 'engineEnded' || input.type === 'confirmed')
      this.late = [...this.late.slice(-15), { process, input }];
    if (input.type === 'timeout' && input.timer !== 'abort' && input.timer !== 'leave')
      this.late = [...this.late.slice(-15), { process, input }];
    const before = process.state;
    if (input.type === 'prepareEnded' && process.rank === 0 && before.ticket?.run === input.run) {
      this.runOf(before.generation ?? '', before.ticket).prepared.add(0);
    }
    const { state, effects } = this.reduce(before, input);
    process.state = state;
    for (const effect of effects) this.effect(process, effect);
    if (before.phase !== 'aborting' && state.phase === 'aborting') {
      this.check(process.timers.has('abort'), 'I5', 'an abort without its timer');
    }
    return effects.length;
  }

  private effect(process: Process, effect: Effect): void {
    const { rank, state } = process;
    const generation = state.generation ?? '';
    switch (effect.do) {
      case 'seal':
        this.seals.set(generation, { ...effect.members });
        return;
      case 'connect':
        process.owed.push({ type: 'connected', generation });
        return;
      case 'send': {
        if (effect.body.type === 'ready') this.readyOf(generation).add(rank);
        if (effect.body.type === 'prepared') this.runOf(generation, effect.body.ticket).prepared.add(rank);
        const message = { generation, from: rank, body: effect.body };
        const to = rank === 0 ? Array.from({ length: this.ranks - 1 }, (_, i) => i + 1) : [0];
        for (const one of to) this.wire.push({ to: one, message });
        return;
      }
      case 'claims':
        process.claimsOpen = effect.open;
        if (effect.open) {
          this.check(rank === 0, 'I7', 'a follower claims');
          const ready = this.readyOf(generation).size;
          this.check(ready === this.ranks - 1, 'I7', `claims open with ${ready} followers READY`);
        }
        return;
      case 'prepare': {
        const { run, epoch } = effect.ticket;
        const failure = { kind: 'infrastructure', code: 'S3', message: 'away' } as const;
        // Some documents cannot be had, and not by every rank alike.
        process.owed.push({
          type: 'prepareEnded',
          run,
          failure: (epoch + rank) % 11 === 10 ? failure : null,
        });
        return;
      }
      case 'confirm':
        process.owed.push({
          type: 'confirmed',
          run: effect.ticket.run,
          go: effect.ticket.epoch % 13 !== 12,
          runMs: 1,
        });
        return;
      case 'run':
        this.checkRun(process, generation, effect.ticket);
        return;
      case 'stop':
        this.runOf(generation, effect.ticket).stop = true;
        return;
      case 'settle': {
        const name = `${effect.ticket.item}/${effect.ticket.epoch}`;
        const times = (this.settlements.get(name) ?? 0) + 1;
        this.settlements.set(name, times);
        this.check(times === 1, 'I1', `${name} was settled ${times} times`);
        if (effect.settlement.kind === 'end') this.completed++;
        return;
      }
      case 'timer':
        process.timers.set(effect.timer, effect.run);
        return;
      case 'clear':
        process.timers.delete(effect.timer);
        return;
      case 'abort':
        process.owed.push({ type: 'left' });
        return;
      case 'drop':
        return;
      case 'exit':
        process.exit = effect.clean;
        return;
    }
  }

  /** I2: all N PREPARED for the same generation, epoch and item; and nobody is in another run. */
  private checkRun(process: Process, generation: string, ticket: Ticket): void {
    const run = this.runOf(generation, ticket);
    this.check(
      run.prepared.size === this.ranks,
      'I2',
      `run ${ticket.run} with ${run.prepared.size} PREPARED`,
    );
    this.check(!run.started.has(process.rank), 'I2', `rank ${process.rank} runs ${ticket.run} twice`);
    for (const other of this.processes) {
      const mine = other.state.generation === generation && other.alive && other.state.phase === 'running';
      if (!mine || other.state.ticket === null) continue;
      const same = key(generation, other.state.ticket) === key(generation, ticket);
      this.check(same, 'I2', `ranks ${process.rank} and ${other.rank} are in different runs`);
    }
    run.started.add(process.rank);
  }

  private runOf(generation: string, ticket: Ticket): Run {
    const name = key(generation, ticket);
    const run = this.runs.get(name) ?? { prepared: new Set(), started: new Set(), stop: false, end: null };
    this.runs.set(name, run);
    return run;
  }

  private readyOf(generation: string): Set<number> {
    const found = this.ready.get(generation) ?? new Set<number>();
    this.ready.set(generation, found);
    return found;
  }

  private check(holds: boolean, invariant: string, what: string): void {
    if (!holds) throw new Error(`${invariant} broken: ${what}`);
  }
}
