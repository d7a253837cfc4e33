/**
 * `longhaul.json` of a model directory: how documents and questions become token sequences.
 *
 *   document ids = ids(document_prefix) + plain(document)
 *   query ids    = ids(query_prefix) + plain(question) + ids(query_suffix)
 *
 * Only the three template parts may activate special tokens.
 */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ConfigError } from '../platform/errors.js';

export const PROMPT_FILE = 'longhaul.json';

const prompt = z.strictObject({
  /** What requests call the model; default: the directory's name. */
  name: z.string().min(1).max(256).optional(),
  document_prefix: z.string(),
  query_prefix: z.string(),
  query_suffix: z.string(),
  /** Tokens that end an answer; each must be one token of the vocabulary. */
  stop: z.array(z.string().min(1)).min(1),
  /** l_a and l_p where nobody names them, as fractions of a block (document tokens / ranks). */
  defaults: z.strictObject({
    anchor_per_block: z.number().gt(0).max(1),
    passing_per_block: z.number().min(0).max(1),
  }),
});
export type Prompt = z.infer<typeof prompt>;

/** Whether a model directory says by itself how its prompts are made. */
export async function hasPromptFile(modelDir: string): Promise<boolean> {
  return stat(join(modelDir, PROMPT_FILE)).then(
    () => true,
    () => false,
  );
}

/** @throws ConfigError naming the file and every field that is wrong. */
export async function readPrompt(modelDir: string): Promise<{ prompt: Prompt; bytes: Buffer }> {
  const path = join(modelDir, PROMPT_FILE);
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new ConfigError(
      `${path} cannot be read; a model directory needs it to say how documents and questions are put into tokens`,
      { cause },
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new ConfigError(`${path} is not JSON; correct it`, { cause });
  }
  const parsed = prompt.safeParse(value);
  if (!parsed.success) {
    const lines = parsed.error.issues.map(
      (issue) => `${issue.path.join('.') || 'top level'}: ${issue.message}`,
    );
    throw new ConfigError(`${path} is refused: ${lines.join('; ')}`);
  }
  return { prompt: parsed.data, bytes };
}
