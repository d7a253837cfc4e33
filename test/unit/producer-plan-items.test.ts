import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MAX_ANSWER_TOKENS_PER_ITEM, MAX_QUESTIONS_PER_ITEM } from '../../src/contracts/request.js';
import { MAX_QUESTION_BYTES_PER_ITEM, questionBytes } from '../../src/producer/check-line.js';
import { planItems, type PlannedRequest } from '../../src/producer/plan-items.js';

const request: fc.Arbitrary<PlannedRequest> = fc
  .record({
    documentSha256: fc.constantFrom('d1', 'd2', 'd3'),
    questions: fc.array(
      fc.integer({ min: 1, max: 4_000 }).map((n) => 'é'.repeat(n)),
      { minLength: 1, maxLength: 6 },
    ),
    max_tokens: fc.integer({ min: 1, max: 2_700 }),
  })
  .map(({ questions, ...r }) => ({
    ...r,
    questions: questions.length,
    questionBytes: questionBytes(questions),
  }))
  .filter((r) => r.questionBytes <= MAX_QUESTION_BYTES_PER_ITEM);
const small: fc.Arbitrary<PlannedRequest> = fc.record({
  documentSha256: fc.constantFrom('d1', 'd2'),
  questions: fc.integer({ min: 1, max: 64 }),
  questionBytes: fc.integer({ min: 3, max: 200 }),
  max_tokens: fc.integer({ min: 1, max: 8 }),
});

test('no request lost or split, one document an item, limits kept, order kept, the same every time', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(request, small), { maxLength: 60 }), (requests) => {
      const items = planItems(requests);
      expect(items.flat().sort((a, b) => a - b)).toEqual(requests.map((_, i) => i));
      expect(items.map(([first]) => first)).toEqual(
        items.map(([first]) => first ?? -1).sort((a, b) => a - b),
      );
      for (const ordinals of items) {
        const members = ordinals.map((ordinal) => requests[ordinal] as PlannedRequest);
        expect(new Set(members.map((m) => m.documentSha256)).size).toBe(1);
        expect([...ordinals].sort((a, b) => a - b)).toEqual(ordinals);
        const sum = (value: (m: PlannedRequest) => number) =>
          members.reduce((total, m) => total + value(m), 0);
        expect(sum((m) => m.questions)).toBeLessThanOrEqual(MAX_QUESTIONS_PER_ITEM);
        expect(sum((m) => m.questions * m.max_tokens)).toBeLessThanOrEqual(MAX_ANSWER_TOKENS_PER_ITEM);
        expect(sum((m) => m.questionBytes)).toBeLessThanOrEqual(MAX_QUESTION_BYTES_PER_ITEM);
      }
      expect(planItems(requests)).toEqual(items);
    }),
  );
});

test('requests of one document share an item, also when others stand between', () => {
  const of = (documentSha256: string, questions = 1): PlannedRequest => ({
    documentSha256,
    questions,
    questionBytes: 3 * questions,
    max_tokens: 8,
  });
  expect(planItems([of('a'), of('b'), of('a'), of('a', 62), of('a')])).toEqual([[0, 2, 3], [1], [4]]);
});
