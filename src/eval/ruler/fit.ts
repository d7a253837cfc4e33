import { LonghaulError } from '../../platform/errors.js';
import type { Sample } from './sample.js';

/**
 * The longest document of at most `length` tokens: one more unit of filler would be too much.
 * Doubles the units until they are, then halves the interval.
 * @param count tokens of a document, by the loaded model's tokenizer.
 * @throws LonghaulError `EVAL_LENGTH` when the document without filler is longer than that.
 */
export async function fit(
  { build }: Pick<Sample, 'build'>,
  length: number,
  count: (text: string) => Promise<number>,
): Promise<{ text: string; tokens: number }> {
  const at = async (units: number) => {
    const text = build(units);
    return { text, tokens: await count(text) };
  };
  let best = await at(0);
  if (best.tokens > length) {
    throw new LonghaulError(
      'EVAL_LENGTH',
      `the task needs ${best.tokens} tokens without any filler, and the length is ${length}; choose a longer one`,
    );
  }
  let low = 0;
  let high = 1;
  for (let next = await at(high); next.tokens <= length; next = await at(high)) {
    if (next.text === best.text) throw new Error('filler does not make the document longer');
    [best, low, high] = [next, high, high * 2];
  }
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    const next = await at(middle);
    if (next.tokens <= length) [best, low] = [next, middle];
    else high = middle;
  }
  return best;
}
