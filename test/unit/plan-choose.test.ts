import fc from 'fast-check';
import { expect, test } from 'vitest';
import { choosePlan, describeWay, POLICIES, type PlanRequest } from '../../src/plan/choose.js';
import { facts } from './plan-support.js';

const request = (change: Partial<PlanRequest>): PlanRequest => ({
  tokens: 32_768,
  longestQuery: 20,
  ranks: [1, 2, 4, 8],
  policy: 'balanced',
  ...change,
});
const choose = (change: Partial<PlanRequest>) => choosePlan(facts(), request(change));

test('exact below the break-even, apb above it, and never exact again behind it', () => {
  for (const ranks of [2, 4]) {
    const exact = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 131_072, 1_048_576].map(
      (tokens) => choose({ ranks: [ranks], tokens }).chosen.exact,
    );
    expect(exact[0]).toBe(true);
    expect(exact.at(-1)).toBe(false);
    expect(exact.lastIndexOf(true)).toBe(exact.indexOf(false) - 1);
  }
});

test('what is chosen is allowed, and within what an approximation and balanced blocks must gain of the fastest', () => {
  const anyRequest = fc.record({
    tokens: fc.integer({ min: 1, max: 2_000_000 }),
    longestQuery: fc.integer({ min: 1, max: 4000 }),
    ranks: fc.uniqueArray(fc.integer({ min: 1, max: 16 }), { minLength: 1, maxLength: 4 }),
    policy: fc.constantFrom(...POLICIES),
  });
  fc.assert(
    fc.property(anyRequest, (given) => {
      const { chosen, candidates, why } = choosePlan(facts(), given);
      expect(candidates).toContain(chosen);
      expect(given.ranks).toContain(chosen.ranks);
      if (given.policy === 'exact') expect(candidates.every(({ exact }) => exact)).toBe(true);
      expect(chosen.seconds).toBeLessThanOrEqual(1.02 * 1.06 * (candidates[0]?.seconds as number));
      if (chosen.blocks === 'balanced') {
        const even = candidates.find(
          (each) => each.blocks === 'even' && each.method === chosen.method && each.ranks === chosen.ranks,
        );
        expect(even?.seconds).toBeGreaterThanOrEqual(1.06 * chosen.seconds);
      }
      expect(why).toContain(describeWay(chosen));
      for (const { method, ranks, anchor, passing } of candidates) {
        if (method === 'ulysses') expect(4 % ranks).toBe(0); // the demo model has 4 query heads
        if (method === 'apb') {
          expect(anchor).toBeGreaterThanOrEqual(2 * given.longestQuery);
          expect(Math.max(passing, given.longestQuery > 4096 ? 0 : (anchor as number))).toBeLessThanOrEqual(
            8192,
          );
        }
      }
    }),
    { numRuns: 60 },
  );
});

test('blocks stay even where balanced ones are predicted to gain less than 6 %, and it says so', () => {
  const gain = ({ candidates }: ReturnType<typeof choose>) => {
    const seconds = (blocks: 'even' | 'balanced') =>
      candidates.find((each) => each.method === 'apb' && each.blocks === blocks)?.seconds as number;
    return seconds('even') / seconds('balanced') - 1;
  };
  const short = choose({ policy: 'fast', ranks: [2], tokens: 4096 });
  expect(gain(short)).toBeCloseTo(0.044, 3);
  expect(short.chosen).toMatchObject({ method: 'apb', blocks: 'even' });
  expect(short.why).toContain('less than the 6 % that balanced blocks must gain');
  const long = choose({ policy: 'fast', ranks: [2], tokens: 16_384 });
  expect(gain(long)).toBeGreaterThan(0.06);
  expect(long.chosen).toMatchObject({ method: 'apb', blocks: 'balanced' });
});

test("balanced takes the model's own l_a and l_p, fast half of them, and neither above 8,192", () => {
  const sizes = (policy: 'balanced' | 'fast', tokens: number, ranks: number) => {
    const apb = choose({ policy, tokens, ranks: [ranks] }).candidates.find(({ method }) => method === 'apb');
    return [apb?.anchor, apb?.passing];
  };
  expect(sizes('balanced', 131_072, 8)).toEqual([4096, 2048]);
  expect(sizes('fast', 131_072, 8)).toEqual([2048, 1024]);
  expect(sizes('balanced', 524_288, 8)).toEqual([8192, 8192]);
});

test('it says why', () => {
  expect(choose({ policy: 'exact' }).why).toMatch(/^the policy allows exact ways alone, and .* on 8 ranks/);
  expect(choose({ ranks: [1] }).why).toMatch(/^one rank reads exactly, and full on 1 rank is/);
  expect(choose({}).why).toMatch(
    /^apb on 8 ranks.*, l_a 1024, l_p 512 is predicted to be \d\.\d\d times as fast/,
  );
  expect(choose({ tokens: 400, ranks: [2] }).why).toMatch(/^exact, because the best way that is not \(apb/);
});

test('more ranks than places gain nothing by themselves', () => {
  const { chosen } = choosePlan(facts({ places: 1 }), request({ policy: 'exact', ranks: [1, 4] }));
  const four = choosePlan(facts({ places: 1 }), request({ policy: 'exact', ranks: [4] })).chosen;
  expect(four.seconds).toBeGreaterThanOrEqual(0.99 * chosen.seconds);
});
