import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ConfigError } from '../platform/errors.js';

const modelConfig = z.looseObject({
  max_position_embeddings: z.int().min(1),
  num_attention_heads: z.int().min(1),
});

/** What config.json says about the documents and cohorts that a model fits. */
export interface ModelLimits {
  /** Positions that the model was made for: document, query and answer together must not pass them. */
  maxPositions: number;
  queryHeads: number;
}

/** @throws ConfigError when config.json is missing or does not say. */
export async function readModelLimits(modelDir: string): Promise<ModelLimits> {
  const path = join(modelDir, 'config.json');
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new ConfigError(`${path} cannot be read as JSON; modelDir must name a model's directory`, {
      cause,
    });
  }
  const parsed = modelConfig.safeParse(value);
  if (!parsed.success) {
    const field = parsed.error.issues[0]?.path.join('.') ?? '';
    throw new ConfigError(`${path} needs a whole number ${field}; correct it`);
  }
  return {
    maxPositions: parsed.data.max_position_embeddings,
    queryHeads: parsed.data.num_attention_heads,
  };
}
