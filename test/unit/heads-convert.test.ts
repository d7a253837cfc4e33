import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { convertHeads } from '../../src/gpu-worker/heads/convert.js';
import { zip } from '../support/zip.js';

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'longhaul-heads-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

// ---- safetensors, read back ----------------------------------------------------------------------
function readSafetensors(path: string) {
  const bytes = readFileSync(path);
  const size = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + size)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  return new Map(
    Object.entries(header).map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [start, end],
        },
      ]) => [name, { dtype, shape, data: bytes.subarray(8 + size + start, 8 + size + end) }],
    ),
  );
}

// ---- archives and pickles, made by hand ----------------------------------------------------------
const ascii = (text: string) => Buffer.from(text, 'latin1');
const int = (value: number) => {
  const bytes = Buffer.alloc(5);
  bytes.write('J', 'latin1');
  bytes.writeInt32LE(value, 1);
  return bytes;
};
const text = (value: string) => Buffer.concat([Buffer.from([0x8c, value.length]), ascii(value)]);
const call = (name: string, ...args: Buffer[]) =>
  Buffer.concat([ascii(`c${name}\n`), ascii('('), ...args, ascii('tR')]);
const tuple = (...items: number[]) => Buffer.concat([ascii('('), ...items.map(int), ascii('t')]);
function tensor(key: string, elements: number, shape: number[], stride: number[], offset = 0) {
  const id = [text('storage'), ascii('ctorch\nFloatStorage\n'), text(key), text('cpu'), int(elements)];
  const storage = Buffer.concat([ascii('('), ...id, ascii('tQ')]);
  return call(
    'torch._utils\n_rebuild_tensor_v2',
    storage,
    int(offset),
    tuple(...shape),
    tuple(...stride),
    Buffer.from([0x89]),
    call('collections\nOrderedDict'),
  );
}
const fc = (part: 1 | 2, layer = 0) => `model.layers.${layer}.self_attn.fc${part}.weight`;
const dictionary = (entries: Record<string, Buffer>) =>
  Buffer.concat([
    Buffer.from([0x80, 2]),
    ascii('}('),
    ...Object.entries(entries).flatMap(([k, v]) => [text(k), v]),
    ascii('u.'),
  ]);

const whole = { [fc(1)]: tensor('0', 6, [2, 3], [3, 1]), [fc(2)]: tensor('1', 2, [1, 2], [2, 1]) };
const data = [
  { name: 'a/data/0', data: Buffer.alloc(24, 1) },
  { name: 'a/data/1', data: Buffer.alloc(8, 2) },
];
const archive = (pickle: Buffer) => zip([{ name: 'a/data.pkl', data: pickle }, ...data]);

async function convert(bytes: Buffer) {
  const [input, output] = [join(directory, 'in.bin'), join(directory, 'out.safetensors')];
  writeFileSync(input, bytes);
  try {
    return await convertHeads(input, output);
  } finally {
    // Whole or not at all.
    expect(readdirSync(directory).filter((name) => name.includes('partial'))).toEqual([]);
  }
}

async function refused(bytes: Buffer, code: string, words: string | RegExp) {
  await expect(convert(bytes)).rejects.toMatchObject({
    code,
    message: expect.stringMatching(words) as string,
  });
  expect(existsSync(join(directory, 'out.safetensors'))).toBe(false);
}

// ---- tests ---------------------------------------------------------------------------------------
test.each([
  ['plain', 'BF16', 0],
  ['state-dict', 'F32', 2],
  ['protocol4', 'F16', 0],
])('a file that PyTorch wrote: %s.bin', async (name, type, skipped) => {
  const output = join(directory, 'out.safetensors');
  const facts = await convertHeads(`test/fixtures/heads/${name}.bin`, output);
  expect(facts).toMatchObject({ layers: 2, width: 4, keyValueHeads: 2, type, skipped });
  const expected = JSON.parse(readFileSync('test/fixtures/heads/expected.json', 'utf8')) as Record<
    string,
    Record<string, { shape: number[]; hex: string }>
  >;
  const got = readSafetensors(output);
  expect([...got].map(([key, { dtype, shape, data }]) => [key, dtype, shape, data.toString('hex')])).toEqual(
    Object.entries(expected[name] ?? {}).map(([key, { shape, hex }]) => [key, type, shape, hex]),
  );
});

test('a file made by hand is read: what the hostile ones below are changes of', async () => {
  expect(await convert(archive(dictionary(whole)))).toMatchObject({
    layers: 1,
    width: 2,
    keyValueHeads: 1,
    type: 'F32',
  });
});

test('pickles that would run something are refused, and nothing runs', async () => {
  for (const name of [
    'os\nsystem',
    'builtins\neval',
    '__builtin__\ngetattr',
    'torch\nload',
    'numpy.core.multiarray\n_reconstruct',
  ])
    await refused(
      archive(Buffer.concat([call(name, text('touch /tmp/x')), ascii('.')])),
      'HEADS_PICKLE',
      /is not allowed.*nothing is executed/,
    );
  // The same through STACK_GLOBAL, INST, OBJ, NEWOBJ, EXT1 and a nested pickle's persistent id.
  await refused(
    archive(Buffer.concat([text('os'), text('system'), Buffer.from([0x93]), ascii('.')])),
    'HEADS_PICKLE',
    /os\.system/,
  );
  for (const opcode of ['(ios\nsystem\n.', '(o.', '\x81.', '\x82\x01.', 'P1\n.', 'S"a"\n.', '\x8f.', 'I1\n.'])
    await refused(archive(ascii(opcode)), 'HEADS_PICKLE', /opcode 0x/);
  await refused(
    archive(Buffer.concat([call('torch\nFloatStorage', int(1)), ascii('.')])),
    'HEADS_PICKLE',
    'is called',
  );
  await refused(
    archive(Buffer.concat([call('torch._utils\n_rebuild_parameter', text('a')), ascii('.')])),
    'HEADS_PICKLE',
    'no tensor',
  );
});

test('pickles that are cut off, underflow, recall nothing, or grow without end are refused', async () => {
  const good = dictionary(whole);
  for (const length of [0, 1, 2, 10, good.length - 1])
    await refused(archive(good.subarray(0, length)), 'HEADS_PICKLE', /./);
  for (const opcodes of [
    '.',
    't.',
    '\x85.',
    'u.',
    'h\x05.',
    'q\x01.',
    '}(\x8c\x01au.',
    '}K\x01K\x02s.',
    'Na.',
  ])
    await refused(archive(ascii(opcodes)), 'HEADS_PICKLE', /./);
  await refused(archive(Buffer.alloc(1_200_000, 'N')), 'HEADS_PICKLE', /values/);
  await refused(archive(Buffer.alloc(17 << 20, 'N')), 'HEADS_PICKLE', /bytes/);
  await refused(
    archive(Buffer.concat([ascii('\x8a\x09'), Buffer.alloc(9, 0x7f), ascii('.')])),
    'HEADS_PICKLE',
    /too large/,
  );
});

test('tensors that reach outside their storage, share bytes, or are not dense are refused', async () => {
  const first = (changed: Buffer) => archive(dictionary({ ...whole, [fc(1)]: changed }));
  await refused(first(tensor('0', 6, [2, 3], [3, 1], 1)), 'HEADS_ARCHIVE', 'needs 6 elements at 1');
  await refused(first(tensor('0', 60, [20, 3], [3, 1])), 'HEADS_ARCHIVE', 'holds 24 bytes');
  await refused(first(tensor('7', 6, [2, 3], [3, 1])), 'HEADS_ARCHIVE', 'holds 0 bytes');
  await refused(first(tensor('0', 6, [2, 3], [1, 2])), 'HEADS_CONTENT', 'contiguous');
  await refused(first(tensor('0', 6, [1000000, 3], [0, 1])), 'HEADS_CONTENT', 'contiguous');
  await refused(first(tensor('0', 6, [2, -3], [3, 1])), 'HEADS_PICKLE', 'shape');
  await refused(first(tensor('../../x', 6, [2, 3], [3, 1])), 'HEADS_PICKLE', 'storage');
  await refused(first(tensor('1', 2, [1, 2], [2, 1])), 'HEADS_CONTENT', 'same bytes');
  await refused(first(tensor('0', 6, [3, 2], [2, 1])), 'HEADS_CONTENT', 'expected');
  await refused(
    archive(dictionary({ [fc(1)]: whole[fc(1)] as Buffer })),
    'HEADS_CONTENT',
    'fc2.weight is missing',
  );
  await refused(
    archive(dictionary({ weight: whole[fc(1)] as Buffer })),
    'HEADS_CONTENT',
    'fc1.weight is missing',
  );
  await refused(archive(dictionary({ ...whole, other: text('a') })), 'HEADS_PICKLE', 'is a string');
});

test('archives that are no zip, compressed, truncated, overlapping or damaged are refused', async () => {
  const pickle = { name: 'a/data.pkl', data: dictionary(whole) };
  const good = zip([pickle, ...data]);
  await refused(Buffer.from('not a zip'), 'HEADS_ARCHIVE', 'no zip archive');
  await refused(Buffer.alloc(0), 'HEADS_ARCHIVE', 'no zip archive');
  for (const length of [good.length - 1, good.length - 30, 40])
    await refused(good.subarray(0, length), 'HEADS_ARCHIVE', /./);
  await refused(good.subarray(10), 'HEADS_ARCHIVE', /./);
  await refused(
    zip([pickle, { name: 'a/data/0', data: Buffer.alloc(1 << 20), method: 8 }]),
    'HEADS_ARCHIVE',
    'compressed',
  );
  const at = good.indexOf(Buffer.alloc(24, 1));
  const flipped = Buffer.from(good);
  flipped.writeUInt8(9, at);
  await refused(flipped, 'HEADS_ARCHIVE', 'checksum');
  await refused(
    zip([pickle, ...data], (central, i) => i === 2 && central.writeUInt32LE(0, 42)),
    'HEADS_ARCHIVE',
    'in another entry',
  );
  await refused(
    zip(
      [pickle, ...data],
      (central, i) => i === 2 && (central.writeUInt32LE(1 << 30, 20), central.writeUInt32LE(1 << 30, 24)),
    ),
    'HEADS_ARCHIVE',
    'beyond',
  );
  await refused(
    zip([pickle, ...data], (central, i) => i === 1 && central.writeUInt16LE(1, 8)),
    'HEADS_ARCHIVE',
    'encrypted',
  );
  await refused(zip([pickle, pickle, ...data]), 'HEADS_ARCHIVE', 'two entries');
  await refused(zip([pickle, { ...pickle, name: 'b/data.pkl' }, ...data]), 'HEADS_ARCHIVE', '2 files');
  await refused(zip(data), 'HEADS_ARCHIVE', '0 files');
  await refused(
    zip([pickle, { name: 'a/byteorder', data: Buffer.from('big') }, ...data]),
    'HEADS_ARCHIVE',
    'big-endian',
  );
});
