/**
 * The cohort protocol: one pure function `reduce(state, input) -> { state, effects }` for leader
 * (rank 0) and follower. It reads no clock, draws no random number and does no I/O.
 *
 *   forming    a generation is being formed: members register until all N are there
 *   sealed     the leader has written down who is in; the ranks connect to each other
 *   ready      all connected (leader: every rank said READY); the leader may claim a work item
 *   preparing  the ranks fetch their part of the item; no collective has been started
 *   running    GO was given: every rank runs the same collectives in the same order
 *   aborting   the communicator is given up; nothing but leaving counts any more
 *   gone       over; the process exits (75: form anew; 0: asked to stop)
 *
 *   forming -> sealed -> ready -> preparing -> running -> ready ...
 *                          ^          |                       any but gone -> aborting -> gone
 *                          +----------+ released               forming, ready (close) -> gone
 *
 * Fences (I6): a message of another generation, of a run that is not the present one, or from a
 * sender that cannot have sent it, changes nothing. A follower takes a PREPARE only of a higher run
 * than any it saw. Generations are compared by equality: `<counter>.<incarnation>` never repeats,
 * even when Redis lost the counter's last writes.
 *
 * A stop (cancel, expiry, drain) is rank 0's `stop` effect and travels inside a collective; the ranks then
 * report `finished` as after any run, and the communicator lives. An abort needs no agreement.
 */
import type { AbortCause, Body, Failure, Message, RunEnd, Ticket } from './messages.js';
import type { Effect, Input, Members, Settlement, State, Step, Timer } from './protocol-types.js';

export { initialState } from './protocol-types.js';

const same = (state: State): Step => ({ state, effects: [] });
const isLeader = (state: State) => state.rank === 0;
const sameTicket = (a: Ticket | null, b: Ticket) =>
  a !== null && a.run === b.run && a.batch === b.batch && a.item === b.item && a.epoch === b.epoch;
const add = (list: readonly number[], rank: number) => (list.includes(rank) ? list : [...list, rank]);

export function reduce(state: State, input: Input): Step {
  // Answered in every phase: the processor that claimed waits for it.
  if (input.type === 'claimed') return onClaimed(state, input);
  if (state.phase === 'gone') return same(state);
  if (state.phase === 'aborting') {
    const out = input.type === 'left' || (input.type === 'timeout' && input.timer === 'abort');
    return out ? gone(state, false) : same(state);
  }
  switch (input.type) {
    case 'opened':
      if (state.phase !== 'forming') return same(state);
      return {
        state: { ...state, generation: input.generation },
        effects: [{ do: 'timer', timer: 'join', run: 0, ms: null }],
      };
    case 'members':
      return onMembers(state, input.generation, input.members);
    case 'seal':
      return onSeal(state, input.generation, input.members);
    case 'connected':
      if (state.phase !== 'sealed' || input.generation !== state.generation) return same(state);
      if (isLeader(state)) return onReady(state, 0);
      return {
        state: { ...state, phase: 'ready' },
        effects: [
          { do: 'clear', timer: 'join' },
          { do: 'send', body: { type: 'ready' } },
        ],
      };
    case 'message':
      return onMessage(state, input.message);
    case 'prepareEnded':
      return onPrepareEnded(state, input.run, input.failure);
    case 'confirmed':
      return onConfirmed(state, input.run, input.go, input.runMs);
    case 'stop':
      if (!isLeader(state) || state.phase !== 'running' || state.ticket?.run !== input.run)
        return same(state);
      return { state, effects: [{ do: 'stop', ticket: state.ticket }] };
    case 'engineEnded':
      return onEngineEnded(state, input.run, input.end);
    case 'fault':
      return abort(state, input.cause);
    case 'timeout':
      return onTimeout(state, input.timer, input.run);
    case 'close':
      return onClose(state);
    case 'left':
      return same(state);
  }
}

function onMembers(state: State, generation: string, members: Members): Step {
  if (!isLeader(state) || state.phase !== 'forming' || generation !== state.generation) return same(state);
  const all = Array.from({ length: state.ranks }, (_, rank) => members[rank]);
  if (all.includes(undefined) || members[0] !== state.incarnation) return same(state);
  return {
    state: { ...state, phase: 'sealed' },
    effects: [
      { do: 'seal', members },
      { do: 'connect', members },
    ],
  };
}

function onSeal(state: State, generation: string, members: Members): Step {
  if (isLeader(state) || state.phase !== 'forming' || generation !== state.generation) return same(state);
  if (members[state.rank] !== state.incarnation) {
    const message = `rank ${state.rank} of generation ${generation} is another process`;
    return abort(state, { code: 'NOT_SEALED', message, rank: state.rank });
  }
  return { state: { ...state, phase: 'sealed' }, effects: [{ do: 'connect', members }] };
}

/** I7: claims open only when every rank is READY. */
function onReady(state: State, rank: number): Step {
  if (state.phase !== 'sealed') return same(state);
  const ready = add(state.ready, rank);
  if (ready.length < state.ranks) return same({ ...state, ready });
  const effects: Effect[] = [{ do: 'clear', timer: 'join' }];
  return backToReady({ ...state, ready }, effects);
}

function onMessage(state: State, { generation, from, body }: Message): Step {
  if (generation !== state.generation || from === state.rank || from >= state.ranks) return same(state);
  if (body.type === 'abort') return abort(state, body.cause);
  return isLeader(state) ? onReply(state, from, body) : from === 0 ? onControl(state, body) : same(state);
}

function onReply(state: State, from: number, body: Body): Step {
  switch (body.type) {
    case 'ready':
      return onReady(state, from);
    case 'prepared':
      return sameTicket(state.ticket, body.ticket) ? onPrepared(state, from) : same(state);
    case 'refused':
      return sameTicket(state.ticket, body.ticket) ? onRefused(state, body.failure) : same(state);
    case 'finished':
      return sameTicket(state.ticket, body.ticket) ? onFinished(state, from, body.end) : same(state);
    case 'leaving':
      return onClose(state);
    default:
      return same(state);
  }
}

function onControl(state: State, body: Body): Step {
  switch (body.type) {
    case 'prepare': {
      if (body.ticket.run <= state.lastRun) return same(state);
      if (state.phase !== 'ready' && state.phase !== 'preparing') return same(state);
      const { ticket } = body;
      return {
        state: { ...state, phase: 'preparing', ticket, lastRun: ticket.run, prepared: [] },
        effects: [...dropInHand(state), { do: 'prepare', ticket }],
      };
    }
    case 'go':
      // I2, a follower's half: it runs only what it is PREPARED for.
      if (state.phase !== 'preparing' || !sameTicket(state.ticket, body.ticket)) return same(state);
      if (!state.prepared.includes(state.rank)) return same(state);
      return { state: { ...state, phase: 'running' }, effects: [{ do: 'run', ticket: body.ticket }] };
    case 'release':
      if (state.phase !== 'preparing' || !sameTicket(state.ticket, body.ticket)) return same(state);
      return { state: { ...state, phase: 'ready', ticket: null, prepared: [] }, effects: dropInHand(state) };
    case 'close': {
      if (state.phase === 'running') return same(state);
      const { state: next, effects } = gone(state, true);
      return { state: next, effects: [...dropInHand(state), ...effects] };
    }
    default:
      return same(state);
  }
}

function onClaimed(state: State, claim: { batch: string; item: number; epoch: number }): Step {
  if (!isLeader(state)) return same(state);
  const { batch, item, epoch } = claim;
  const ticket: Ticket = { run: state.lastRun + 1, batch, item, epoch };
  if (state.phase !== 'ready' || state.closing)
    return { state, effects: [{ do: 'settle', ticket, settlement: { kind: 'withheld' } }] };
  return {
    state: { ...state, phase: 'preparing', ticket, lastRun: ticket.run, prepared: [], ends: {} },
    effects: [
      { do: 'timer', timer: 'prepare', run: ticket.run, ms: null },
      { do: 'send', body: { type: 'prepare', ticket } },
      { do: 'prepare', ticket },
    ],
  };
}

function onPrepareEnded(state: State, run: number, refusal: Failure | null): Step {
  const { ticket } = state;
  if (state.phase !== 'preparing' || ticket?.run !== run) return same(state);
  if (isLeader(state)) return refusal === null ? onPrepared(state, 0) : onRefused(state, refusal);
  if (refusal !== null)
    return { state, effects: [{ do: 'send', body: { type: 'refused', ticket, failure: refusal } }] };
  if (state.prepared.includes(state.rank)) return same(state);
  return {
    state: { ...state, prepared: [state.rank] },
    effects: [{ do: 'send', body: { type: 'prepared', ticket } }],
  };
}

/** I2, the leader's half: GO is possible only when all N are PREPARED for the same ticket. */
function onPrepared(state: State, from: number): Step {
  if (state.phase !== 'preparing' || state.ticket === null || state.prepared.includes(from))
    return same(state);
  const prepared = add(state.prepared, from);
  const next = { ...state, prepared };
  if (prepared.length < state.ranks) return same(next);
  return {
    state: next,
    effects: [
      { do: 'clear', timer: 'prepare' },
      { do: 'confirm', ticket: state.ticket },
    ],
  };
}

function onConfirmed(state: State, run: number, go: boolean, runMs: number): Step {
  const { ticket } = state;
  if (!isLeader(state) || state.phase !== 'preparing' || ticket?.run !== run) return same(state);
  if (state.prepared.length < state.ranks) return same(state);
  if (!go || state.closing) return release(state, { kind: 'withheld' });
  return {
    state: { ...state, phase: 'running' },
    effects: [
      { do: 'timer', timer: 'run', run, ms: runMs },
      { do: 'send', body: { type: 'go', ticket } },
      { do: 'run', ticket },
    ],
  };
}

function onRefused(state: State, failure: Failure): Step {
  return state.phase === 'preparing' ? release(state, { kind: 'refused', failure }) : same(state);
}

function onEngineEnded(state: State, run: number, end: RunEnd): Step {
  const { ticket } = state;
  if (state.phase !== 'running' || ticket?.run !== run) return same(state);
  if (isLeader(state)) return onFinished(state, 0, end);
  return {
    state: { ...state, phase: 'ready', ticket: null, prepared: [] },
    effects: [{ do: 'send', body: { type: 'finished', ticket, end } }],
  };
}

/** The run is over when all ranks are out of it; from the first one on, the others have little time. */
function onFinished(state: State, from: number, end: RunEnd): Step {
  const { ticket } = state;
  if (state.phase !== 'running' || ticket === null || from in state.ends) return same(state);
  const first = Object.keys(state.ends).length === 0;
  const ends = { ...state.ends, [from]: end };
  const own = ends[0];
  if (Object.keys(ends).length < state.ranks || own === undefined) {
    const timer: Effect = { do: 'timer', timer: 'settle', run: ticket.run, ms: null };
    return { state: { ...state, ends }, effects: first ? [timer] : [] };
  }
  return backToReady({ ...state, ends }, [
    { do: 'clear', timer: 'run' },
    { do: 'clear', timer: 'settle' },
    { do: 'settle', ticket, settlement: { kind: 'end', end: own } },
  ]);
}

function onTimeout(state: State, timer: Timer, run: number): Step {
  const late = (code: string, message: string) => abort(state, { code, message, rank: null });
  switch (timer) {
    case 'join':
      if (state.phase !== 'forming' && state.phase !== 'sealed') return same(state);
      return late('JOIN_TIMEOUT', `the cohort did not get READY in time; it was ${state.phase}`);
    case 'prepare': {
      if (!isLeader(state) || state.phase !== 'preparing' || state.ticket?.run !== run) return same(state);
      if (state.prepared.length === state.ranks) return same(state);
      const missing = absent(state, state.prepared).join(', ');
      const message = `rank ${missing} did not prepare in time`;
      return release(state, {
        kind: 'refused',
        failure: { kind: 'infrastructure', code: 'PREPARE_TIMEOUT', message },
      });
    }
    case 'run':
    case 'settle': {
      if (!isLeader(state) || state.phase !== 'running' || state.ticket?.run !== run) return same(state);
      const out = Object.keys(state.ends).map(Number);
      const missing = absent(state, out);
      const message = `rank ${missing.join(', ')} did not finish the run within its deadline`;
      return abort(state, {
        code: timer === 'run' ? 'RUN_TIMEOUT' : 'RANKS_DIVERGED',
        message,
        rank: missing.length === 1 ? (missing[0] ?? null) : null,
      });
    }
    case 'leave':
      if (!state.closing) return same(state);
      return late('LEAVE_TIMEOUT', 'the leader did not close the cohort in time');
    case 'abort':
      return same(state);
  }
}

function onClose(state: State): Step {
  if (state.closing) return same(state);
  const next = { ...state, closing: true };
  if (state.phase === 'forming' || (isLeader(state) && state.phase === 'ready')) return close(next);
  if (isLeader(state)) {
    if (state.phase === 'sealed')
      return abort(next, { code: 'CLOSED', message: 'asked to stop while forming', rank: state.rank });
    return { state: next, effects: [{ do: 'claims', open: false }] };
  }
  return {
    state: next,
    effects: [
      { do: 'timer', timer: 'leave', run: 0, ms: null },
      { do: 'send', body: { type: 'leaving' } },
    ],
  };
}

function close(state: State): Step {
  const { state: next, effects } = gone(state, true);
  const farewell: Effect[] = state.phase === 'ready' ? [{ do: 'send', body: { type: 'close' } }] : [];
  return { state: next, effects: [{ do: 'claims', open: false }, ...farewell, ...effects] };
}

function release(state: State, settlement: Settlement): Step {
  const { ticket } = state;
  if (ticket === null) return same(state);
  return backToReady(state, [
    { do: 'clear', timer: 'prepare' },
    { do: 'send', body: { type: 'release', ticket } },
    { do: 'drop', ticket },
    { do: 'settle', ticket, settlement },
  ]);
}

function backToReady(state: State, effects: Effect[]): Step {
  const next: State = { ...state, phase: 'ready', ticket: null, prepared: [], ends: {} };
  if (!state.closing) return { state: next, effects: [...effects, { do: 'claims', open: true }] };
  const closed = close(next);
  return { state: closed.state, effects: [...effects, ...closed.effects] };
}

/** I5: from here only `left` or the abort timer counts, and both lead to exit. */
function abort(state: State, cause: AbortCause): Step {
  const settled: Effect[] =
    isLeader(state) && state.ticket !== null
      ? [{ do: 'settle', ticket: state.ticket, settlement: { kind: 'lost', cause } }]
      : [];
  return {
    state: { ...state, phase: 'aborting', ticket: null },
    effects: [
      { do: 'timer', timer: 'abort', run: 0, ms: null },
      { do: 'claims', open: false },
      { do: 'abort', cause },
      { do: 'send', body: { type: 'abort', cause } },
      ...settled,
    ],
  };
}

function gone(state: State, clean: boolean): Step {
  return { state: { ...state, phase: 'gone', ticket: null }, effects: [{ do: 'exit', clean }] };
}

function dropInHand(state: State): Effect[] {
  return state.ticket === null ? [] : [{ do: 'drop', ticket: state.ticket }];
}

function absent(state: State, present: readonly number[]): number[] {
  return Array.from({ length: state.ranks }, (_, rank) => rank).filter((rank) => !present.includes(rank));
}
