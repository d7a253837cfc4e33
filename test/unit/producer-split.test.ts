import fc from 'fast-check';
import { expect, test } from 'vitest';
import { splitTokens } from '../../src/producer/split.js';

const sizes = fc.integer({ min: 2, max: 5000 }).chain((most) =>
  fc.record({
    most: fc.constant(most),
    tokens: fc.integer({ min: 1, max: 50 * most }),
    overlap: fc.integer({ min: 0, max: Math.floor(most / 2) }),
  }),
);

test('parts are the whole, overlap exactly, fit, and are no more than needed', () => {
  fc.assert(
    fc.property(sizes, ({ tokens, most, overlap }) => {
      const parts = splitTokens(tokens, { most, overlap });
      expect(parts[0]?.start).toBe(0);
      expect(parts.at(-1)?.end).toBe(tokens);
      const overlaps = parts.slice(1).map(({ start }, i) => (parts[i]?.end ?? 0) - start);
      expect(new Set(overlaps)).toEqual(new Set(parts.length > 1 ? [overlap] : []));
      const lengths = parts.map(({ start, end }) => end - start);
      expect(Math.max(...lengths)).toBeLessThanOrEqual(most);
      expect(Math.min(...lengths)).toBeGreaterThan(parts.length > 1 ? overlap : 0);
      expect(Math.max(...lengths) - Math.min(...lengths)).toBeLessThanOrEqual(1);
      // One part less could not hold all of it.
      if (parts.length > 1)
        expect((parts.length - 1) * most - (parts.length - 2) * overlap).toBeLessThan(tokens);
    }),
  );
});

test.each([
  [{ most: 100, overlap: 51 }, /an overlap of 51 tokens is more than half of the 100/],
  [{ most: 0, overlap: 0 }, /half of the 0 that/],
  [{ most: -5, overlap: 0 }, /half of the 0 that/],
])('%o leaves no room', (limits, message) => {
  expect(() => splitTokens(1000, limits)).toThrow(message);
});
