import { getMaxListeners, setMaxListeners } from 'node:events';

/**
 * Runs `work` over `inputs`, at most `limit` at a time; results come in input order. After an error
 * nothing more is begun; it is thrown when all that had begun is over.
 */
export async function mapConcurrently<T, R>(
  inputs: readonly T[],
  limit: number,
  work: (input: T) => Promise<R>,
  signal?: AbortSignal,
): Promise<R[]> {
  // Each request under way listens to the signal; Node.js takes more than ten for a leak.
  if (signal !== undefined) setMaxListeners(Math.max(getMaxListeners(signal), 8 * limit), signal);
  const results = new Array<R>(inputs.length);
  let next = 0;
  let failure: { error: unknown } | undefined;
  const lane = async () => {
    while (next < inputs.length && failure === undefined) {
      const index = next++;
      try {
        signal?.throwIfAborted();
        results[index] = await work(inputs[index] as T);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, inputs.length) }, lane));
  if (failure !== undefined) throw failure.error;
  return results;
}

export function* chunks<T>(values: readonly T[], size: number): Generator<T[]> {
  for (let start = 0; start < values.length; start += size) yield values.slice(start, start + size);
}
