import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ConfigError } from '../platform/errors.js';

const modelConfig = z.looseObject({ max_position_embeddings: z.int().min(1) });

/**
 * How many positions the model was made for: document, query and answer together must not pass it.
 * @throws ConfigError when config.json is missing or does not say.
 */
export async function readMaxPositions(modelDir: string): Promise<number> {
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
    throw new ConfigError(`${path} needs a whole number max_position_embeddings; correct it`);
  }
  return parsed.data.max_position_embeddings;
}
