/** The decision table of the cohort protocol: what every state does with every input that is not ignored there. */
import type { Body, Ticket } from '../../src/gpu-worker/messages.js';
import { initialState } from '../../src/gpu-worker/protocol.js';
import type { Effect, Input, State } from '../../src/gpu-worker/protocol-types.js';
import type { Reduce } from './protocol-world.js';

const ticket: Ticket = { run: 2, batch: 'b', item: 7, epoch: 3 };
const generation = '4.x';
const failure = { kind: 'infrastructure', code: 'S3', message: 'away' } as const;
const cause = { code: 'FAULT', message: 'x', rank: null };
const members = { 0: 'i0', 1: 'i1', 2: 'i2' };

function states(): [string, State][] {
  const found: [string, State][] = [];
  for (const [who, rank] of [
    ['leader', 0],
    ['follower', 1],
  ] as const) {
    const born = initialState(rank, 3, `i${rank}`);
    const forming = { ...born, generation };
    const ready: State = { ...forming, phase: 'ready', ready: rank === 0 ? [0, 1, 2] : [], lastRun: 1 };
    const preparing: State = { ...ready, phase: 'preparing', ticket, lastRun: 2 };
    const running: State = { ...preparing, phase: 'running', prepared: rank === 0 ? [0, 1, 2] : [1] };
    const all: [string, State][] = [
      ['born', born],
      ['forming', forming],
      ['sealed', { ...forming, phase: 'sealed' }],
      ['ready', ready],
      ['preparing', preparing],
      ['preparing, self prepared', { ...preparing, prepared: [rank] }],
      ['running', running],
    ];
    if (rank === 0) {
      all.push(
        ['sealed, 0 and 1 ready', { ...forming, phase: 'sealed', ready: [0, 1] }],
        ['preparing, 0 and 1 prepared', { ...preparing, prepared: [0, 1] }],
        ['preparing, all prepared', { ...preparing, prepared: [0, 1, 2] }],
        // No input leads here; each guard has to hold by itself.
        ['running, 0 alone prepared', { ...running, prepared: [0] }],
        ['running, 1 finished', { ...running, ends: { 1: 'done' } }],
        ['running, 0 and 1 finished', { ...running, ends: { 0: 'done', 1: 'done' } }],
        ['running, others finished', { ...running, ends: { 1: 'stopped', 2: 'stopped' } }],
      );
    }
    // No input leads here either.
    if (rank === 1) all.push(['preparing, all prepared', { ...preparing, prepared: [0, 1, 2] }]);
    const closing = all
      .slice(2)
      .map(([name, state]): [string, State] => [`${name}, closing`, { ...state, closing: true }]);
    const over: [string, State][] = [
      ['aborting', { ...ready, phase: 'aborting' }],
      ['gone', { ...ready, phase: 'gone' }],
    ];
    for (const [name, state] of [...all, ...closing, ...over]) found.push([`${who}, ${name}`, state]);
  }
  return found;
}

function inputs(): [string, Input][] {
  const found: [string, Input][] = [
    ['opened', { type: 'opened', generation: '5.y' }],
    ['members', { type: 'members', generation, members }],
    ['members of another generation', { type: 'members', generation: '5.y', members }],
    ['members without 2', { type: 'members', generation, members: { 0: 'i0', 1: 'i1' } }],
    ['members with another 0', { type: 'members', generation, members: { ...members, 0: 'j0' } }],
    ['members with 1 as 0', { type: 'members', generation, members: { ...members, 0: 'i1' } }],
    ['seal', { type: 'seal', generation, members }],
    ['seal of another generation', { type: 'seal', generation: '5.y', members }],
    ['seal with another 1', { type: 'seal', generation, members: { ...members, 1: 'j1' } }],
    ['connected', { type: 'connected', generation }],
    ['connected in another generation', { type: 'connected', generation: '5.y' }],
    ['claimed', { type: 'claimed', batch: 'b', item: 8, epoch: 1 }],
    ['fault', { type: 'fault', cause }],
    ['close', { type: 'close' }],
    ['left', { type: 'left' }],
  ];
  for (const run of [2, 1, 3]) {
    const of = run === 2 ? '' : ` of run ${run}`;
    found.push(
      [`prepareEnded${of}`, { type: 'prepareEnded', run, failure: null }],
      [`prepareEnded${of}, refused`, { type: 'prepareEnded', run, failure }],
      [`confirmed${of}`, { type: 'confirmed', run, go: true, runMs: 9 }],
      [`confirmed${of}, no`, { type: 'confirmed', run, go: false, runMs: 9 }],
      [`stop${of}`, { type: 'stop', run }],
      [`engineEnded${of}`, { type: 'engineEnded', run, end: 'done' }],
    );
    for (const timer of ['join', 'prepare', 'run', 'settle', 'leave', 'abort'] as const)
      found.push([`timeout ${timer}${of}`, { type: 'timeout', timer, run }]);
  }
  const bodies: [string, Body][] = [
    ['ready', { type: 'ready' }],
    ['leaving', { type: 'leaving' }],
    ['close', { type: 'close' }],
    ['abort', { type: 'abort', cause }],
  ];
  const others: [string, Partial<Ticket>][] = [
    ['', {}],
    [' of an earlier run', { run: 1 }],
    [' of a later run', { run: 3 }],
    [' of another batch', { batch: 'c' }],
    [' of another item', { item: 8 }],
    [' of another epoch', { epoch: 4 }],
  ];
  for (const [of, change] of others) {
    const named = { ticket: { ...ticket, ...change } };
    bodies.push(
      [`prepare${of}`, { type: 'prepare', ...named }],
      [`go${of}`, { type: 'go', ...named }],
      [`release${of}`, { type: 'release', ...named }],
      [`prepared${of}`, { type: 'prepared', ...named }],
      [`refused${of}`, { type: 'refused', ...named, failure }],
      [`finished${of}`, { type: 'finished', ...named, end: 'done' }],
    );
  }
  for (const [name, body] of bodies)
    for (const from of [0, 1, 2, 3])
      found.push([`${name} from ${from}`, { type: 'message', message: { generation, from, body } }]);
  for (const [name, body] of bodies)
    found.push([
      `${name} from another generation`,
      { type: 'message', message: { generation: '3.x', from: 0, body } },
    ]);
  return found;
}

function effectText(effect: Effect): string {
  const short = (at: Ticket) => `run ${at.run} item ${at.item}.${at.epoch}`;
  switch (effect.do) {
    case 'send':
      return `send ${effect.body.type}${'ticket' in effect.body ? ` (${short(effect.body.ticket)})` : ''}`;
    case 'settle': {
      const { settlement } = effect;
      const how =
        settlement.kind === 'end'
          ? JSON.stringify(settlement.end)
          : settlement.kind === 'refused'
            ? settlement.failure.code
            : '';
      return `settle ${short(effect.ticket)} ${settlement.kind} ${how}`.trim();
    }
    case 'timer':
      return `timer ${effect.timer}${effect.run > 0 ? ` of run ${effect.run}` : ''}`;
    case 'clear':
      return `clear ${effect.timer}`;
    case 'claims':
      return effect.open ? 'claims open' : 'claims closed';
    case 'abort':
      return `abort ${effect.cause.code} by ${effect.cause.rank ?? 'nobody'}`;
    case 'exit':
      return effect.clean ? 'exit clean' : 'exit to form anew';
    case 'seal':
    case 'connect':
      return effect.do;
    default:
      return `${effect.do} ${short(effect.ticket)}`;
  }
}

/** One paragraph a state, one line an input: what changes -> what is done. Inputs that do nothing are left out. */
export function decisionTable(reduce: Reduce): string {
  const paragraphs = states().map(([name, state]) => {
    const rows = inputs().flatMap(([what, input]) => {
      const step = reduce(state, input);
      const changed = Object.entries(step.state)
        .filter(([field, value]) => JSON.stringify(value) !== JSON.stringify(state[field as keyof State]))
        .map(
          ([field, value]) =>
            `${field}=${field === 'ticket' && value !== null ? 'it' : JSON.stringify(value)}`,
        );
      if (changed.length === 0 && step.effects.length === 0) return [];
      return [
        `  ${what}: ${changed.join(' ') || 'same'} -> ${step.effects.map(effectText).join(', ') || 'nothing'}`,
      ];
    });
    return [name, ...rows].join('\n');
  });
  return `${paragraphs.join('\n\n')}\n`;
}
