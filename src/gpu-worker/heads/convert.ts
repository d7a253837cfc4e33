/** The authors' retaining heads (a torch.save file) as the safetensors that the engine reads. */
import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import { HeadsContentError, ArchiveError } from './errors.js';
import { readTensors, type ElementType, type PickledTensor } from './pickle.js';
import { readDirectory, readEntry, type ZipEntry } from './zip.js';

export interface ConvertedHeads {
  layers: number;
  /** Width of the hidden layer, R. */
  width: number;
  keyValueHeads: number;
  type: ElementType;
  bytes: number;
  /** Tensors of the file that are no retaining heads. */
  skipped: number;
}

const NAME = /^model\.layers\.(\d{1,4})\.self_attn\.fc([12])\.weight$/;
const bytesOf: Record<ElementType, number> = { F32: 4, F16: 2, BF16: 2 };

interface Found {
  name: string;
  tensor: PickledTensor;
  entry: ZipEntry;
  start: number;
  bytes: number;
}

/**
 * Reads `input` and writes `output`, whole or not at all.
 * @throws ArchiveError, PickleError, HeadsContentError; nothing in the file is executed.
 */
export async function convertHeads(input: string, output: string): Promise<ConvertedHeads> {
  const file = await open(input, 'r').catch((cause: unknown) => {
    throw new ArchiveError(`${input} cannot be opened; check the path`, { cause });
  });
  const partial = `${output}.${process.pid}.partial`;
  try {
    const entries = await readDirectory(file);
    const { found, skipped } = await findHeads(file, entries);
    const facts = checkShapes(found);
    const out = await open(partial, 'wx');
    try {
      await write(file, out, found);
    } finally {
      await out.close();
    }
    await rename(partial, output);
    return { ...facts, bytes: found.reduce((sum, { bytes }) => sum + bytes, 0), skipped };
  } finally {
    await file.close();
    await rm(partial, { force: true });
  }
}

/** torch.save puts everything into one folder, named after the file. */
function folderOf(entries: Map<string, ZipEntry>): string {
  const pickles = [...entries.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  const [pickle] = pickles;
  if (pickle === undefined || pickles.length > 1) {
    throw new ArchiveError(
      `the archive holds ${pickles.length} files named data.pkl, expected one; give a file that torch.save wrote`,
    );
  }
  return pickle.slice(0, -'data.pkl'.length);
}

async function findHeads(
  file: FileHandle,
  entries: Map<string, ZipEntry>,
): Promise<{ found: Found[]; skipped: number }> {
  const folder = folderOf(entries);
  const order = entries.get(`${folder}byteorder`);
  if (order && (await readEntry(file, order)).toString('latin1') !== 'little') {
    throw new ArchiveError('the tensors are big-endian; save the file again on a little-endian machine');
  }
  const tensors = readTensors(await readEntry(file, entries.get(`${folder}data.pkl`) as ZipEntry));
  const found: Found[] = [];
  for (const [name, tensor] of tensors) {
    if (!NAME.test(name)) continue;
    const { storage, shape, stride, offset } = tensor;
    const elements = shape.reduce((product, n) => product * n, 1);
    const dense = shape.every(
      (n, i) => n <= 1 || stride[i] === shape.slice(i + 1).reduce((product, m) => product * m, 1),
    );
    if (stride.length !== shape.length || !dense) {
      throw new HeadsContentError(`${name} is not stored row after row; save it again with .contiguous()`);
    }
    const entry = entries.get(`${folder}data/${storage.key}`);
    const size = bytesOf[storage.type];
    if (entry?.size !== storage.elements * size || offset + elements > storage.elements) {
      throw new ArchiveError(
        `${name} needs ${elements} elements at ${offset} of storage ${storage.key}, which holds ${entry?.size ?? 0} bytes`,
      );
    }
    found.push({ name, tensor, entry, start: offset * size, bytes: elements * size });
  }
  // Many names for the same bytes would make a small file large.
  const unique = new Set(found.map(({ entry, start }) => `${entry.name}:${start}`));
  if (unique.size < found.length) throw new HeadsContentError('two tensors are the same bytes of the file');
  return {
    found: found.sort((a, b) => layerOf(a.name) - layerOf(b.name) || a.name.localeCompare(b.name)),
    skipped: tensors.size - found.length,
  };
}

const layerOf = (name: string): number => Number(NAME.exec(name)?.[1]);

/** fc1 [R, (NQ+2NK)*D] and fc2 [NK, R] of layers 0, 1, ..., all alike. */
function checkShapes(found: Found[]): Pick<ConvertedHeads, 'layers' | 'width' | 'keyValueHeads' | 'type'> {
  const layers = found.length / 2;
  const names = new Set(found.map(({ name }) => name));
  for (let i = 0; i < Math.max(1, layers); i++) {
    for (const part of ['fc1', 'fc2']) {
      const name = `model.layers.${i}.self_attn.${part}.weight`;
      if (!names.has(name)) {
        throw new HeadsContentError(
          `${name} is missing: the file holds ${found.length} tensors of retaining heads; give the heads' own file`,
        );
      }
    }
  }
  const shape = (part: string) =>
    found.filter(({ name }) => name.endsWith(`${part}.weight`)).map(({ tensor }) => tensor.shape);
  const [first, second] = [shape('fc1')[0] ?? [], shape('fc2')[0] ?? []];
  const [width, keyValueHeads] = [first[0] ?? 0, second[0] ?? 0];
  for (const { name, tensor } of found) {
    const want = name.includes('fc1') ? first : second;
    if (
      tensor.shape.length !== 2 ||
      tensor.shape.join() !== want.join() ||
      tensor.storage.type !== found[0]?.tensor.storage.type
    ) {
      throw new HeadsContentError(
        `${name} has shape [${tensor.shape.join(', ')}] of ${tensor.storage.type}, layer 0 has [${want.join(', ')}] of ${found[0]?.tensor.storage.type}`,
      );
    }
  }
  if (width === 0 || keyValueHeads === 0 || second[1] !== width) {
    throw new HeadsContentError(
      `fc1 has shape [${first.join(', ')}] and fc2 [${second.join(', ')}]; expected [R, ...] and [KV heads, R]`,
    );
  }
  return { layers, width, keyValueHeads, type: (found[0] as Found).tensor.storage.type };
}

async function write(file: FileHandle, out: FileHandle, found: Found[]): Promise<void> {
  let end = 0;
  const header = Object.fromEntries(
    found.map(({ name, tensor, bytes }) => {
      const data_offsets = [end, (end += bytes)];
      return [name, { dtype: tensor.storage.type, shape: tensor.shape, data_offsets }];
    }),
  );
  const text = JSON.stringify(header);
  const padded = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(padded.length));
  await out.write(size);
  await out.write(padded);
  for (const { entry, start, bytes } of found) {
    const data = await readEntry(file, entry);
    await out.write(data, start, bytes);
  }
  await out.sync();
}
