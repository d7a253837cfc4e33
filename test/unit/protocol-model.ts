/**
 * The model check: commands that fast-check draws, done to a world of real reducers, and what must hold of it
 * whatever they are. Messages are lost, doubled and reordered, processes die, clocks run ahead, Redis forgets.
 */
import fc from 'fast-check';
import { expect } from 'vitest';
import { World, type Reduce } from './protocol-world.js';

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
  'skew',
  'again',
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
  skew: 1,
  again: 6,
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
    case 'skew':
      return world.skew(target);
    case 'again':
      return world.again(pick);
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

const worlds = fc.tuple(fc.integer({ min: 1, max: 4 }), fc.array(command, { maxLength: 400, size: 'max' }));

export interface ModelCheck {
  reduce: Reduce;
  seed: number;
  /** At least so many commands are done. */
  steps: number;
}
export interface Checked {
  worlds: number;
  steps: number;
  completed: number;
}

/** I1 (one settlement), I2 (all PREPARED), I5 (abort has its timer), I6 (generations), I7 (all READY), at every effect. */
export function checkInvariants({ reduce, seed, steps }: ModelCheck): Checked {
  const done: Checked = { worlds: 0, steps: 0, completed: 0 };
  const property = fc.property(worlds, ([ranks, commands]) => {
    const world = new World(ranks, reduce);
    for (const one of commands) apply(world, one);
    done.worlds++;
    done.steps += commands.length;
    done.completed += world.completed;
  });
  // Half of the longest: what the arrays have on average.
  for (let part = 0; done.steps < steps; part++)
    fc.assert(property, { seed: seed + part, numRuns: Math.max(10, Math.ceil((steps - done.steps) / 200)) });
  return done;
}

/** I5: a rank that aborts exits, at the latest by its timer, whatever else happens. */
export function checkAborts({ reduce, seed, steps }: ModelCheck): void {
  fc.assert(
    fc.property(worlds, fc.array(command, { maxLength: 50 }), ([ranks, before], after) => {
      const world = new World(ranks, reduce);
      for (const one of before) apply(world, one);
      const aborting = world.processes.filter((p) => p.alive && p.state.phase === 'aborting');
      for (const one of after) if (one.kind !== 'restart') apply(world, one);
      for (const process of aborting) {
        expect(['aborting', 'gone']).toContain(process.state.phase);
        const step = reduce(process.state, { type: 'timeout', timer: 'abort', run: 0 });
        expect(step.state.phase).toBe('gone');
      }
    }),
    { seed, numRuns: Math.ceil(steps / 200) },
  );
}

/** After any past the world comes to rest: every claim is settled once, and new items are answered. */
export function checkRest({ reduce, seed, steps }: ModelCheck): void {
  fc.assert(
    fc.property(worlds, ([ranks, commands]) => {
      const world = new World(ranks, reduce);
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
      world.claim(true);
      settle(world);
      expect(world.completed).toBe(answered + 1);
      // Only a killed leader owes an answer: its processor died with it.
      for (const { name, leader } of world.claimed) {
        if (leader.alive) expect(world.settlements.get(name), name).toBe(1);
      }
    }),
    { seed, numRuns: Math.ceil(steps / 200) },
  );
}
