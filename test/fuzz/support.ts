/** What all fuzzers share: a time each, a seed that is printed, and damage to inputs that are whole. */
import fc from 'fast-check';
import { expect } from 'vitest';

const seconds = Number(process.env['FUZZ_SECONDS'] || 20);
const seed = Number(process.env['FUZZ_SEED'] || Math.floor(Math.random() * 2 ** 31));
/** For one input on a busy machine: what takes longer hangs for a reader. */
const INPUT_MS = 10_000;
const MEMORY_MEGABYTES = 1500;

/** Of a test; the time for shrinking a finding comes on top. */
export const TEST_MS = seconds * 1000 + 120_000;

/** Tries inputs until the time is over. A finding is shrunk and played again with `FUZZ_SEED=`. */
export async function fuzz<T>(
  parser: string,
  inputs: fc.Arbitrary<T>,
  one: (input: T) => Promise<void> | void,
): Promise<void> {
  let tried = 0;
  console.log(`fuzz ${parser}: seed ${seed}, ${seconds} s`);
  const property = fc.asyncProperty(inputs, async (input) => {
    tried++;
    const start = performance.now();
    await one(input);
    expect(performance.now() - start, 'milliseconds for one input').toBeLessThan(INPUT_MS);
  });
  await fc.assert(property, {
    seed,
    numRuns: Number.MAX_SAFE_INTEGER,
    interruptAfterTimeLimit: seconds * 1000,
    markInterruptAsFailure: false,
  });
  const megabytes = process.resourceUsage().maxRSS / 1024;
  console.log(`fuzz ${parser}: ${tried} inputs, at most ${Math.round(megabytes)} MB`);
  expect(megabytes, 'megabytes').toBeLessThan(MEMORY_MEGABYTES);
  expect(tried, 'inputs tried').toBeGreaterThan(0);
}

const EDGES = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];
const edit = fc.record({
  kind: fc.constantFrom('flip', 'insert', 'remove', 'repeat', 'word', 'number16', 'number32', 'end'),
  /** Part of the way through the input. */
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  length: fc.nat(40),
  bytes: fc.uint8Array({ maxLength: 12 }),
  pick: fc.nat(1000),
});
type Edit = typeof edit extends fc.Arbitrary<infer E> ? E : never;

function edited(
  input: Buffer,
  { kind, at: part, length, bytes, pick }: Edit,
  words: readonly Buffer[],
): Buffer {
  const at = Math.floor(part * input.length);
  const until = Math.min(input.length, at + length);
  const put = (piece: Uint8Array, from = at, to = at) =>
    Buffer.concat([input.subarray(0, from), piece, input.subarray(to)]);
  switch (kind) {
    case 'flip': {
      const copy = Buffer.from(input);
      if (at < copy.length) copy[at] = (copy[at] ?? 0) ^ (1 << (pick % 8));
      return copy;
    }
    case 'insert':
      return put(bytes);
    case 'remove':
      return put(Buffer.alloc(0), at, until);
    case 'repeat':
      return put(input.subarray(at, until));
    case 'word':
      return put(words[pick % words.length] ?? Buffer.alloc(0), at, pick % 2 === 0 ? at : until);
    case 'number16':
    case 'number32': {
      const number = EDGES[pick % EDGES.length] ?? 0;
      const piece = Buffer.alloc(kind === 'number16' ? 2 : 4);
      if (kind === 'number16') piece.writeUInt16LE(number & 0xffff);
      else piece.writeUInt32LE(number);
      return put(piece, at, Math.min(input.length, at + piece.length));
    }
    case 'end':
      return pick % 4 === 0 ? input.subarray(0, at) : input;
  }
}

/** Bytes of one of `whole` after a few edits; `words` are what the format is made of. */
export function damaged(
  whole: readonly (Buffer | string)[],
  words: readonly (Buffer | string)[],
): fc.Arbitrary<Buffer> {
  const pieces = words.map((word) => Buffer.from(word as string));
  return fc
    .tuple(fc.constantFrom(...whole), fc.array(edit, { maxLength: 6 }))
    .map(([bytes, edits]) =>
      edits.reduce<Buffer>((input, one) => edited(input, one, pieces), Buffer.from(bytes as string)),
    );
}

const nested = (depth: number): unknown => {
  let value: unknown = 1;
  for (let i = 0; i < depth; i++) value = [value];
  return value;
};
const odd: unknown[] = [
  null,
  true,
  0,
  -1,
  0.5,
  1e308,
  2 ** 53,
  '',
  ' ',
  'BPE',
  '\u0000',
  '\ud800',
  'x'.repeat(100_000),
  [],
  {},
  [[]],
  { __proto__: null },
  JSON.parse('{"__proto__": {"polluted": 1}, "constructor": 1}'),
  nested(2000),
  Array(1000).fill(0),
];
const graft = fc.record({
  path: fc.array(fc.nat(1000), { maxLength: 8 }),
  kind: fc.constantFrom('odd', 'any', 'remove', 'double', 'name'),
  pick: fc.nat(1000),
  any: fc.jsonValue({ maxDepth: 2 }),
});
type Graft = typeof graft extends fc.Arbitrary<infer G> ? G : never;

/** The value with what lies at a path (of positions, as far as it leads) replaced, removed or doubled. */
function grafted(value: unknown, { path, ...change }: Graft): unknown {
  const replacement = (): unknown =>
    change.kind === 'odd' ? odd[change.pick % odd.length] : change.kind === 'any' ? change.any : undefined;
  if (typeof value !== 'object' || value === null) return replacement();
  const [step, ...rest] = path;
  const keys = Object.keys(value);
  const key = keys[(step ?? 0) % keys.length];
  if (step === undefined || key === undefined) return replacement() ?? value;
  if (Array.isArray(value)) {
    const index = Number(key);
    if (rest.length > 0) return value.with(index, grafted(value[index], { path: rest, ...change }));
    if (change.kind === 'remove') return value.toSpliced(index, 1);
    if (change.kind === 'double') return value.toSpliced(index, 0, value[index]);
    return value.with(index, replacement());
  }
  const copy = new Map<string, unknown>(Object.entries(value));
  if (rest.length > 0) copy.set(key, grafted(copy.get(key), { path: rest, ...change }));
  else if (change.kind === 'remove') copy.delete(key);
  else if (change.kind === 'name') {
    copy.set(`${key}s`, copy.get(key));
    copy.delete(key);
  } else if (change.kind !== 'double') copy.set(key, replacement());
  return Object.fromEntries(copy);
}

/** JSON text of one of `whole` with parts replaced by others: gets past the parser, to what checks its values. */
export function graftedJson(whole: readonly unknown[]): fc.Arbitrary<string> {
  return fc
    .tuple(fc.constantFrom(...whole), fc.array(graft, { maxLength: 4 }))
    .map(([value, grafts]) => JSON.stringify(grafts.reduce<unknown>(grafted, value)) ?? 'null');
}

/** A request in the style of OpenAI's Batch API. */
export const chatLine = (custom_id: string) => ({
  custom_id,
  method: 'POST',
  url: '/v1/chat/completions',
  body: {
    model: 'demo',
    messages: [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: [{ type: 'text', text: 'A document.' }] },
      { role: 'user', content: 'A question?' },
    ],
    max_completion_tokens: 5,
  },
});
