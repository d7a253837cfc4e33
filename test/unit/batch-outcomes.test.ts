import fc from 'fast-check';
import { expect, test } from 'vitest';
import { canonicalJson } from '../../src/batch/canonical.js';
import { indexManifest } from '../../src/batch/manifest.js';
import { decodeManifest, encodeManifest } from '../../src/batch/manifest.js';
import {
  decodeOutcome,
  encodeOutcome,
  readChildFailure,
  readChildValue,
  toOutcomes,
} from '../../src/batch/outcomes.js';
import { activeItem, statusFromFields } from '../../src/batch/status.js';
import { makeBatch, makeResult } from '../integration/batch-support.js';

const sizes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 6 });

/** The same value with every object's keys in another order, as JSON of another writer may have. */
function shuffled(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shuffled);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, inner]) => [key, shuffled(inner)]),
  );
}

test('canonical JSON does not depend on the order of keys, and keeps the value', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const plain: unknown = JSON.parse(JSON.stringify(value));
      expect(canonicalJson(shuffled(plain))).toBe(canonicalJson(plain));
      expect(JSON.parse(canonicalJson(plain))).toEqual(plain);
    }),
  );
});

test('an item whose child ended in any way gives one outcome for each request, with equal bytes each time', () => {
  const failure = fc.record({
    end: fc.constantFrom('failed' as const, 'cancelled' as const, 'expired' as const),
    code: fc.string(),
    message: fc.string(),
  });
  fc.assert(
    fc.property(sizes, fc.option(failure, { nil: undefined }), fc.nat(20), (items, failed, dropped) => {
      const { manifest, items: workItems } = makeBatch('b', { items });
      const indexed = indexManifest(manifest);
      workItems.forEach((item, index) => {
        const result = makeResult(item);
        // A cohort that forgot some requests.
        result.requests = result.requests.filter(({ ordinal }) => ordinal !== dropped);
        const requests = indexed.items[index] ?? [];
        const make = (value: unknown) =>
          toOutcomes(
            manifest.header,
            requests,
            failed === undefined ? readChildValue(value) : readChildFailure(JSON.stringify(value)),
          );
        const outcomes = make(failed ?? result);
        expect(outcomes.map((o) => o.ordinal)).toEqual(requests.map((r) => r.ordinal));
        expect(outcomes.map((o) => o.custom_id)).toEqual(requests.map((r) => r.custom_id));
        for (const outcome of outcomes) {
          expect(outcome.status).toBe(failed?.end ?? (outcome.ordinal === dropped ? 'failed' : 'answered'));
          const bytes = encodeOutcome(outcome);
          expect(decodeOutcome(bytes, 'b', outcome.ordinal)).toEqual(outcome);
        }
        const again = make(shuffled(failed ?? result));
        expect(Buffer.concat(again.map(encodeOutcome))).toEqual(Buffer.concat(outcomes.map(encodeOutcome)));
      });
    }),
  );
});

test('values and reasons that break the contract become failures, never exceptions', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const end = readChildValue(value);
      expect('end' in end ? end.code : 'valid').toBe('INVALID_RESULT');
    }),
  );
  fc.assert(
    fc.property(fc.string(), (reason) => {
      expect(readChildFailure(reason)).toEqual({ end: 'failed', code: 'COHORT_FAILED', message: reason });
    }),
  );
});

test('an object of another request is not taken for an outcome', () => {
  const { manifest, items } = makeBatch('b', { items: [2] });
  const [first] = toOutcomes(manifest.header, manifest.requests, makeResult(items[0]!));
  expect(() => decodeOutcome(encodeOutcome(first!), 'b', 1)).toThrow(/OUTCOME_CORRUPT|request 0/);
  expect(() => decodeOutcome(Buffer.from('{'), 'b', 0)).toThrow('outcome of request 0 of batch b');
});

test('a manifest survives encoding; contradictions are named', () => {
  const { manifest } = makeBatch('b', { items: [2, 1] });
  expect(decodeManifest('b', encodeManifest(manifest)).requests).toEqual(manifest.requests);
  expect(() => decodeManifest('c', encodeManifest(manifest))).toThrow('names batch b');
  const twice = structuredClone(manifest);
  twice.requests[1]!.custom_id = 'request 0';
  expect(() => indexManifest(twice)).toThrow('custom_id request 0 twice');
  const short = structuredClone(manifest);
  short.requests.pop();
  expect(() => indexManifest(short)).toThrow('2 requests, its totals say 3');
  expect(() => decodeManifest('b', Buffer.from('{"format":1}\n'))).toThrow('line 1');
});

test('counts of a status always add up to the total', () => {
  const count = fc.nat(10);
  fc.assert(
    fc.property(count, count, count, count, count, (answered, failed, cancelled, expired, pending) => {
      const total = answered + failed + cancelled + expired + pending;
      const fields = { total, answered, failed, cancelled, expired, created_at: 1, enqueued_at: 2 };
      const text = Object.fromEntries(Object.entries(fields).map(([k, v]) => [k, String(v)]));
      const status = statusFromFields('b', text, []);
      expect(status.request_counts.pending).toBe(pending);
      expect(status.status).toBe(pending === 0 ? 'finalizing' : 'in_progress');
    }),
  );
});

test('progress of an older start of an item is not shown', () => {
  const progress = { epoch: 1, phase: 'prefill', done: 3, total: 9, document_tokens: 100 };
  expect(activeItem(4, 1, progress)).toEqual({ item: 4, ...progress });
  expect(activeItem(4, 2, progress)).toMatchObject({ item: 4, epoch: 2, phase: 'prepare', done: 0 });
  expect(activeItem(4, 1, 0)).toMatchObject({ phase: 'prepare' });
});
