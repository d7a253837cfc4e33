import { expect, test } from 'vitest';
import { examplesOf } from './protocol-examples.js';
import { guards, without, type Guard } from './protocol-guards.js';
import { checkAborts, checkInvariants, checkRest } from './protocol-model.js';
import type { Reduce } from './protocol-world.js';

/** What finds the missing guard; undefined: nothing does. */
function found(reduce: Reduce): string | undefined {
  const fails = (run: () => unknown): boolean => {
    try {
      run();
      return false;
    } catch {
      return true;
    }
  };
  const example = examplesOf(reduce).find(({ run }) => fails(run));
  if (example !== undefined) return example.name;
  const model = { reduce, seed: 1, steps: 20_000 };
  if (fails(() => checkInvariants(model))) return 'the invariants of the model';
  if (fails(() => checkAborts(model))) return 'aborts in the model';
  return fails(() => checkRest(model)) ? 'rest in the model' : undefined;
}

/** These only tell the compiler what another guard, or the state's own shape, has made sure of. */
const NARROWING = ['ticket === null', 'state.ticket === null', 'own === undefined'];
const narrows = ({ text, by }: Guard) => by === 'false' && NARROWING.includes(text);

const named = ({ line, text, by }: Guard) => `line ${line}: ${text} -> ${by}`;

test('no guard of the protocol can be removed without a test that fails', () => {
  const all = guards().filter((guard) => !narrows(guard));
  expect(all.length).toBeGreaterThan(60);
  const survivors: string[] = [];
  const table = all.map((guard) => {
    const by = found(without(guard));
    if (by === undefined) survivors.push(named(guard));
    return `${named(guard)}: ${by ?? 'SURVIVES'}`;
  });
  if (process.env['GUARDS_TABLE']) console.log(table.join('\n'));
  expect(survivors).toEqual([]);
}, 300_000);
