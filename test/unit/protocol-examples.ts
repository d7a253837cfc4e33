/** The cohort protocol by example: what each rank does with inputs in this order. */
import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import type { Message, Ticket } from '../../src/gpu-worker/messages.js';
import { initialState } from '../../src/gpu-worker/protocol.js';
import type { Effect, Input, State } from '../../src/gpu-worker/protocol-types.js';
import { decisionTable } from './protocol-table.js';
import type { Reduce } from './protocol-world.js';

const table = new URL('../fixtures/protocol-table.txt', import.meta.url);

export interface Example {
  name: string;
  run: () => void;
}

const cause = { code: 'X', message: 'x', rank: null };

/** A state reached by inputs, and all effects on the way. */
function played(
  reduce: Reduce,
  rank: number,
  ranks: number,
  inputs: Input[],
): { state: State; effects: Effect[] } {
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

export function examplesOf(reduce: Reduce): Example[] {
  const examples: Example[] = [];
  const example = (name: string, run: () => void) => void examples.push({ name, run });
  const play = (rank: number, ranks: number, inputs: Input[]) => played(reduce, rank, ranks, inputs);

  {
    const who = 'the leader';
    example(`${who} opens claims only after the last READY (I7)`, () => {
      const early = play(0, 2, leaderReady.slice(0, 3));
      expect(early.effects).not.toContainEqual({ do: 'claims', open: true });
      expect(play(0, 2, leaderReady).effects).toContainEqual({ do: 'claims', open: true });
    });

    example(`${who} needs every rank PREPARED and its own confirmation before GO (I2)`, () => {
      const { state, effects } = play(0, 2, leaderRunning.slice(0, -1));
      expect(state.phase).toBe('preparing');
      expect(effects).not.toContainEqual({ do: 'run', ticket });
      expect(play(0, 2, leaderRunning).effects).toContainEqual({ do: 'run', ticket });
    });

    example(`${who} takes no PREPARED of another epoch or item (I6)`, () => {
      for (const other of [{ epoch: 2 }, { epoch: 4 }, { item: 8 }, { run: 2 }]) {
        const inputs = [
          ...leaderRunning.slice(0, -2),
          from(1, { type: 'prepared', ticket: { ...ticket, ...other } }),
        ];
        expect(play(0, 2, inputs).state.prepared).toEqual([0]);
      }
    });

    example(`${who} gives an item back without GO when a rank refuses, and stays READY`, () => {
      const failure = { kind: 'infrastructure', code: 'S3', message: 'away' } as const;
      const { state, effects } = play(0, 2, [
        ...leaderRunning.slice(0, -2),
        from(1, { type: 'refused', ticket, failure }),
      ]);
      expect(state.phase).toBe('ready');
      expect(effects).toContainEqual({ do: 'send', body: { type: 'release', ticket } });
      expect(effects).toContainEqual({ do: 'settle', ticket, settlement: { kind: 'refused', failure } });
    });

    example(`${who} keeps the communicator after a stop that all ranks report`, () => {
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

    example(`${who} gives the cohort up when ranks come out of a run and others do not`, () => {
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

    example(`${who} lets the item in hand end before it closes, and claims nothing more`, () => {
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

    example(`${who} answers a claim in every phase, so that no processor waits for ever`, () => {
      const claimed: Input = { type: 'claimed', batch: 'b', item: 1, epoch: 1 };
      for (const inputs of [
        [],
        leaderReady.slice(0, 3),
        [...leaderReady, { type: 'fault', cause } as Input],
      ]) {
        const { effects } = play(0, 2, [...inputs, claimed]);
        expect(effects.at(-1)).toMatchObject({ do: 'settle', settlement: { kind: 'withheld' } });
      }
    });
  }

  {
    const who = 'a follower';
    const ready: Input[] = [
      { type: 'opened', generation: '1.a' },
      { type: 'seal', generation: '1.a', members },
      { type: 'connected', generation: '1.a' },
    ];

    example(`${who} leaves when the seal names another process under its rank`, () => {
      const { state } = play(1, 2, [
        { type: 'opened', generation: '1.a' },
        { type: 'seal', generation: '1.a', members: { 0: 'i0', 1: 'someone' } },
      ]);
      expect(state.phase).toBe('aborting');
    });

    example(`${who} registers in a newer generation while it is still forming, and not after`, () => {
      const forming = play(1, 2, [
        { type: 'opened', generation: '1.a' },
        { type: 'opened', generation: '2.b' },
      ]);
      expect(forming.state.generation).toBe('2.b');
      expect(play(1, 2, [...ready, { type: 'opened', generation: '2.b' }]).state.generation).toBe('1.a');
    });

    example(`${who} runs nothing that it is not PREPARED for (I2)`, () => {
      const go = from(0, { type: 'go', ticket });
      expect(play(1, 2, [...ready, go]).state.phase).toBe('ready');
      expect(play(1, 2, [...ready, from(0, { type: 'prepare', ticket }), go]).state.phase).toBe('preparing');
    });

    example(`${who} takes no PREPARE of a run that it has seen (I6)`, () => {
      const { state, effects } = play(1, 2, [
        ...ready,
        from(0, { type: 'prepare', ticket: { ...ticket, run: 2 } }),
        from(0, { type: 'release', ticket: { ...ticket, run: 2 } }),
        from(0, { type: 'prepare', ticket }),
      ]);
      expect(state.phase).toBe('ready');
      expect(effects.filter((e) => e.do === 'prepare')).toHaveLength(1);
    });

    example(`${who} takes orders from the leader alone`, () => {
      const { state } = play(1, 3, [
        { type: 'opened', generation: '1.a' },
        { type: 'seal', generation: '1.a', members },
        { type: 'connected', generation: '1.a' },
        from(2, { type: 'prepare', ticket }),
      ]);
      expect(state.phase).toBe('ready');
    });
  }
  example('does what its decision table says, and nothing else', () => {
    expect(decisionTable(reduce)).toBe(readFileSync(table, 'utf8'));
  });
  return examples;
}
