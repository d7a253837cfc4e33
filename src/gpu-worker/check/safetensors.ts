import { readFileSync } from 'node:fs';
import { LonghaulError } from '../../platform/errors.js';

export interface Tensor {
  shape: number[];
  data: Float32Array | Int32Array;
}

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** Reads a safetensors file of F32 and I32 tensors (those of the golden cases). */
export function readSafetensors(path: string): Map<string, Tensor> {
  const bytes = readFileSync(path);
  const bad = (why: string) =>
    new LonghaulError('CASE', `${path} is not a safetensors file: ${why}; write the case anew`);
  if (bytes.length < 8) throw bad('it is too short');
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  if (start > bytes.length) throw bad('its header is longer than the file');
  const header = JSON.parse(bytes.toString('utf8', 8, start)) as Record<string, Entry>;

  const tensors = new Map<string, Tensor>();
  for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const [from, to] = [start + offsets[0], start + offsets[1]];
    const count = shape.reduce((product, n) => product * n, 1);
    if (to > bytes.length || to - from !== 4 * count) throw bad(`tensor ${name} does not fit`);
    const data = bytes.buffer.slice(bytes.byteOffset + from, bytes.byteOffset + to); // copied: aligned
    if (dtype === 'F32') tensors.set(name, { shape, data: new Float32Array(data) });
    else if (dtype === 'I32') tensors.set(name, { shape, data: new Int32Array(data) });
    else throw bad(`tensor ${name} is ${dtype}, and only F32 and I32 are known`);
  }
  return tensors;
}
