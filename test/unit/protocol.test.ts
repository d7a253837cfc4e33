import { describe, expect, it } from 'vitest';
import { reduce } from '../../src/gpu-worker/protocol.js';
import { examplesOf } from './protocol-examples.js';
import { decisionTable } from './protocol-table.js';
import { checkAborts, checkInvariants, checkRest } from './protocol-model.js';

const steps = Number(process.env['MODEL_STEPS'] || 60_000);
const seed = Number(process.env['MODEL_SEED'] || Math.floor(Math.random() * 2 ** 31));
const bound = 60_000 + steps;

describe(`the cohort protocol as a model (seed ${seed}, ${steps} steps)`, () => {
  it(
    'keeps I1 (one settlement), I2 (all PREPARED), I5 (abort has its timer), I6 (generations), I7 (all READY)',
    () => {
      const done = checkInvariants({ reduce, seed, steps });
      console.log(
        `model check: seed ${seed}, ${done.steps} steps in ${done.worlds} worlds, ${done.completed} runs completed`,
      );
      // Otherwise the commands would prove nothing.
      expect(done.completed).toBeGreaterThan(done.steps / 2_000);
    },
    bound,
  );

  it(
    'I5: a rank that aborts exits, at the latest by its timer',
    () => checkAborts({ reduce, seed, steps }),
    bound,
  );

  it(
    'comes to rest after any past: every claim is settled once, and new items are answered',
    () => checkRest({ reduce, seed, steps }),
    bound,
  );
});

describe('the cohort protocol by example', () => {
  // `vitest -u` writes it anew: what changed is then to be read.
  it('has the decision table that is written down', async () => {
    await expect(decisionTable(reduce)).toMatchFileSnapshot('../fixtures/protocol-table.txt');
  });

  it.each(examplesOf(reduce))('$name', ({ run }) => run());
});
