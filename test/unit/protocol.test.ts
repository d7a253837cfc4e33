import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Message, Ticket } from '../../src/gpu-worker/messages.js';
import { initialState, reduce } from '../../src/gpu-worker/protocol.js';
import type { Effect, Input, State } from '../../src/gpu-worker/protocol-types.js';
import { World } from './protocol-world.js';

const kinds = [
  'rendezvous',
  'local',
  'engine',
  'deliver',
  'double',
  'lose',
  'timeout',
  'claim',
  'stop',
  'heartbeat',
  'kill',
  'restart',
  'close',
  'forget',
] as const;
type Kind = (typeof kinds)[number];
interface Command {
  kind: Kind;
  rank: number;
  pick: number;
}

/** Progress is likelier than disaster, or no run would ever come about. */
const weights: Record<Kind, number> = {
  rendezvous: 20,
  local: 30,
  engine: 15,
  deliver: 40,
  double: 8,
  lose: 2,
  timeout: 1,
  claim: 15,
  stop: 2,
  heartbeat: 6,
  kill: 1,
  restart: 4,
  close: 1,
  forget: 1,
};
const kind = fc.oneof(...kinds.map((name) => ({ weight: weights[name], arbitrary: fc.constant(name) })));
const command: fc.Arbitrary<Command> = fc.record({ kind, rank: fc.nat(3), pick: fc.nat(1000) });

function apply(world: World, { kind, rank, pick }: Command): void {
  const target = rank % world.ranks;
  switch (kind) {
    case 'rendezvous':
      return world.rendezvous(target);
    case 'local':
      return world.local(target, pick);
    case 'engine':
      return world.engine(target, pick % 10 === 0);
    case 'deliver':
      return world.deliver(pick, false);
    case 'double':
      return world.deliver(pick, true);
    case 'lose':
      return world.lose(pick);
    case 'timeout':
      return world.timeout(target, pick);
    case 'claim':
      return world.claim();
    case 'stop':
      return world.stop();
    case 'heartbeat':
      return world.heartbeat(target, pick);
    case 'kill':
      return world.kill(target);
    case 'restart':
      return world.restart(target);
    case 'close':
      return world.close(target);
    case 'forget':
      return world.forget();
  }
}

/** A fair world without faults, until nothing is left to do. */
function settle(world: World): void {
  for (let round = 0; round < 200; round++) {
    for (let rank = 0; rank < world.ranks; rank++) {
      world.rendezvous(rank);
      world.local(rank, 0);
      world.engine(rank, false);
      world.heartbeat(rank, round);
    }
    for (let i = 0; i < world.ranks * 3; i++) world.deliver(0, false);
  }
}

describe('the cohort protocol under loss, doubling and reordering of messages, kills and a forgetful Redis', () => {
  const worlds = fc.tuple(fc.integer({ min: 1, max: 4 }), fc.array(command, { maxLength: 400, size: 'max' }));

  it('keeps I1 (one settlement), I2 (all PREPARED), I5 (abort has its timer), I6 (generations), I7 (all READY)', () => {
    let completed = 0;
    fc.assert(
      fc.property(worlds, ([ranks, commands]) => {
        const world = new World(ranks);
        for (const one of commands) apply(world, one);
        completed += world.completed;
      }),
      { numRuns: 1500 },
    );
    // Otherwise the commands would prove nothing.
    expect(completed).toBeGreaterThan(300);
  });

  it('I5: a rank that aborts exits, at the latest by its timer, whatever else happens', () => {
    fc.assert(
      fc.property(worlds, fc.array(command, { maxLength: 50 }), ([ranks, before], after) => {
        const world = new World(ranks);
        for (const one of before) apply(world, one);
        const aborting = world.processes.filter((p) => p.alive && p.state.phase === 'aborting');
        for (const one of after) if (one.kind !== 'restart') apply(world, one);
        for (const process of aborting) {
          expect(['aborting', 'gone']).toContain(process.state.phase);
          const step = reduce(process.state, { type: 'timeout', timer: 'abort', run: 0 });
          expect(step.state.phase).toBe('gone');
        }
      }),
      { numRuns: 300 },
    );
  });

  it('comes to rest after any past: every claim is settled once, and new items are answered', () => {
    fc.assert(
      fc.property(worlds, ([ranks, commands]) => {
        const world = new World(ranks);
        for (const one of commands) apply(world, one);
        // The supervisor starts all ranks anew when one of them is gone.
        for (let round = 0; round < 8; round++) {
          settle(world);
          for (const process of [...world.processes]) {
            const { alive, exit, state, rank } = process;
            if (!alive || exit !== null) world.restart(rank);
            else if (
              state.phase !== 'ready' ||
              world.processes.some((p) => p.state.generation !== state.generation)
            )
              for (let i = 0; i < 3; i++) world.timeout(rank, 0);
          }
        }
        for (const process of world.processes) expect(process.state.phase).toBe('ready');
        const answered = world.completed;
        world.claim();
        settle(world);
        expect(world.completed).toBe(answered + 1);
        // Only a killed leader owes an answer: its processor died with it.
        for (const { name, leader } of world.claimed) {
          if (leader.alive) expect(world.settlements.get(name), name).toBe(1);
        }
      }),
      { numRuns: 300 },
    );
  });
});

const cause = { code: 'X', message: 'x', rank: null };

/** A state reached by inputs, and all effects on the way. */
function play(rank: number, ranks: number, inputs: Input[]): { state: State; effects: Effect[] } {
  let state = initialState(rank, ranks, `i${rank}`);
  const effects: Effect[] = [];
  for (const input of inputs) {
    const step = reduce(state, input);
    state = step.state;
    effects.push(...step.effects);
  }
  return { state, effects };
}

const members = { 0: 'i0', 1: 'i1' };
const from = (sender: number, body: Message['body']): Input => ({
  type: 'message',
  message: { generation: '1.a', from: sender, body },
});
const leaderReady: Input[] = [
  { type: 'opened', generation: '1.a' },
  { type: 'members', generation: '1.a', members },
  { type: 'connected', generation: '1.a' },
  from(1, { type: 'ready' }),
];
const ticket: Ticket = { run: 1, batch: 'b', item: 7, epoch: 3 };
const leaderRunning: Input[] = [
  ...leaderReady,
  { type: 'claimed', batch: 'b', item: 7, epoch: 3 },
  { type: 'prepareEnded', run: 1, failure: null },
  from(1, { type: 'prepared', ticket }),
  { type: 'confirmed', run: 1, go: true, runMs: 1000 },
];

describe('the leader', () => {
  it('opens claims only after the last READY (I7)', () => {
    const early = play(0, 2, leaderReady.slice(0, 3));
    expect(early.effects).not.toContainEqual({ do: 'claims', open: true });
    expect(play(0, 2, leaderReady).effects).toContainEqual({ do: 'claims', open: true });
  });

  it('needs every rank PREPARED and its own confirmation before GO (I2)', () => {
    const { state, effects } = play(0, 2, leaderRunning.slice(0, -1));
    expect(state.phase).toBe('preparing');
    expect(effects).not.toContainEqual({ do: 'run', ticket });
    expect(play(0, 2, leaderRunning).effects).toContainEqual({ do: 'run', ticket });
  });

  it('takes no PREPARED of another epoch or item (I6)', () => {
    for (const other of [{ epoch: 2 }, { epoch: 4 }, { item: 8 }, { run: 2 }]) {
      const inputs = [
        ...leaderRunning.slice(0, -2),
        from(1, { type: 'prepared', ticket: { ...ticket, ...other } }),
      ];
      expect(play(0, 2, inputs).state.prepared).toEqual([0]);
    }
  });

  it('gives an item back without GO when a rank refuses, and stays READY', () => {
    const failure = { kind: 'infrastructure', code: 'S3', message: 'away' } as const;
    const { state, effects } = play(0, 2, [
      ...leaderRunning.slice(0, -2),
      from(1, { type: 'refused', ticket, failure }),
    ]);
    expect(state.phase).toBe('ready');
    expect(effects).toContainEqual({ do: 'send', body: { type: 'release', ticket } });
    expect(effects).toContainEqual({ do: 'settle', ticket, settlement: { kind: 'refused', failure } });
  });

  it('keeps the communicator after a stop that all ranks report', () => {
    const { state, effects } = play(0, 2, [
      ...leaderRunning,
      { type: 'stop', run: 1 },
      { type: 'engineEnded', run: 1, end: 'stopped' },
      from(1, { type: 'finished', ticket, end: 'stopped' }),
    ]);
    expect(effects).toContainEqual({ do: 'stop', ticket });
    expect(effects).toContainEqual({ do: 'settle', ticket, settlement: { kind: 'end', end: 'stopped' } });
    expect(state.phase).toBe('ready');
  });

  it('gives the cohort up when ranks come out of a run and others do not', () => {
    const { state, effects } = play(0, 2, [
      ...leaderRunning,
      { type: 'engineEnded', run: 1, end: 'done' },
      { type: 'timeout', timer: 'settle', run: 1 },
    ]);
    expect(state.phase).toBe('aborting');
    expect(effects.find((e) => e.do === 'abort')).toMatchObject({
      cause: { code: 'RANKS_DIVERGED', rank: 1 },
    });
  });

  it('lets the item in hand end before it closes, and claims nothing more', () => {
    const closing = play(0, 2, [...leaderRunning, { type: 'close' }]);
    expect(closing.state.phase).toBe('running');
    const { effects, state } = play(0, 2, [
      ...leaderRunning,
      { type: 'close' },
      { type: 'engineEnded', run: 1, end: 'done' },
      from(1, { type: 'finished', ticket, end: 'done' }),
    ]);
    expect(state.phase).toBe('gone');
    expect(effects.at(-1)).toEqual({ do: 'exit', clean: true });
    expect(effects).toContainEqual({ do: 'send', body: { type: 'close' } });
  });

  it('answers a claim in every phase, so that no processor waits for ever', () => {
    const claimed: Input = { type: 'claimed', batch: 'b', item: 1, epoch: 1 };
    for (const inputs of [[], leaderReady.slice(0, 3), [...leaderReady, { type: 'fault', cause } as Input]]) {
      const { effects } = play(0, 2, [...inputs, claimed]);
      expect(effects.at(-1)).toMatchObject({ do: 'settle', settlement: { kind: 'withheld' } });
    }
  });
});

describe('a follower', () => {
  const ready: Input[] = [
    { type: 'opened', generation: '1.a' },
    { type: 'seal', generation: '1.a', members },
    { type: 'connected', generation: '1.a' },
  ];

  it('leaves when the seal names another process under its rank', () => {
    const { state } = play(1, 2, [
      { type: 'opened', generation: '1.a' },
      { type: 'seal', generation: '1.a', members: { 0: 'i0', 1: 'someone' } },
    ]);
    expect(state.phase).toBe('aborting');
  });

  it('registers in a newer generation while it is still forming, and not after', () => {
    const forming = play(1, 2, [
      { type: 'opened', generation: '1.a' },
      { type: 'opened', generation: '2.b' },
    ]);
    expect(forming.state.generation).toBe('2.b');
    expect(play(1, 2, [...ready, { type: 'opened', generation: '2.b' }]).state.generation).toBe('1.a');
  });

  it('runs nothing that it is not PREPARED for (I2)', () => {
    const go = from(0, { type: 'go', ticket });
    expect(play(1, 2, [...ready, go]).state.phase).toBe('ready');
    expect(play(1, 2, [...ready, from(0, { type: 'prepare', ticket }), go]).state.phase).toBe('preparing');
  });

  it('takes no PREPARE of a run that it has seen (I6)', () => {
    const { state, effects } = play(1, 2, [
      ...ready,
      from(0, { type: 'prepare', ticket: { ...ticket, run: 2 } }),
      from(0, { type: 'release', ticket: { ...ticket, run: 2 } }),
      from(0, { type: 'prepare', ticket }),
    ]);
    expect(state.phase).toBe('ready');
    expect(effects.filter((e) => e.do === 'prepare')).toHaveLength(1);
  });

  it('takes orders from the leader alone', () => {
    const { state } = play(1, 3, [
      { type: 'opened', generation: '1.a' },
      { type: 'seal', generation: '1.a', members },
      { type: 'connected', generation: '1.a' },
      from(2, { type: 'prepare', ticket }),
    ]);
    expect(state.phase).toBe('ready');
  });
});
