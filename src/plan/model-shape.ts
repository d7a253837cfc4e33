/** A model's sizes, from its directory: config.json, and the header of its retaining heads. */
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ConfigError } from '../platform/errors.js';
import type { ModelShape } from './work.js';

const size = z.int().min(1);
const modelConfig = z.looseObject({
  num_hidden_layers: size,
  hidden_size: size,
  intermediate_size: size,
  num_attention_heads: size,
  num_key_value_heads: size.optional(),
  head_dim: size.nullish(),
});
const tensorHeader = z.record(z.string(), z.looseObject({ shape: z.array(z.int()).optional() }));

/** @throws ConfigError naming the file and the field that is missing or malformed. */
export async function readModelShape(modelDir: string): Promise<ModelShape> {
  const path = join(modelDir, 'config.json');
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new ConfigError(`${path} cannot be read as JSON; --model must name a model's directory`, { cause });
  }
  const parsed = modelConfig.safeParse(value);
  if (!parsed.success) {
    const field = parsed.error.issues[0]?.path.join('.') ?? '';
    throw new ConfigError(`${path} needs a whole number ${field}; correct it`);
  }
  const config = parsed.data;
  return {
    layers: config.num_hidden_layers,
    hidden: config.hidden_size,
    intermediate: config.intermediate_size,
    queryHeads: config.num_attention_heads,
    keyValueHeads: config.num_key_value_heads ?? config.num_attention_heads,
    headDimension: config.head_dim ?? config.hidden_size / config.num_attention_heads,
    retainingHidden: await retainingHidden(join(modelDir, 'retaining_heads.safetensors')),
  };
}

/** Rows of the first layer's fc1; 0 where there is no such file. */
async function retainingHidden(path: string): Promise<number> {
  const file = await open(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return undefined;
    throw new ConfigError(`${path} cannot be read; correct its rights`, { cause });
  });
  if (file === undefined) return 0;
  try {
    const { buffer: length } = await file.read(Buffer.alloc(8), 0, 8, 0);
    const bytes = Number(length.readBigUInt64LE());
    if (bytes > 100e6) throw new Error(`a header of ${bytes} bytes`);
    const { buffer: header } = await file.read(Buffer.alloc(bytes), 0, bytes, 8);
    const tensors = tensorHeader.parse(JSON.parse(header.toString('utf8')));
    const fc1 = Object.entries(tensors).find(([name]) => name.endsWith('self_attn.fc1.weight'));
    const rows = fc1?.[1].shape?.[0];
    if (rows === undefined) throw new Error('no self_attn.fc1.weight');
    return rows;
  } catch (cause) {
    throw new ConfigError(`${path} holds no retaining heads; write it with longhaul heads convert`, {
      cause,
    });
  } finally {
    await file.close();
  }
}
