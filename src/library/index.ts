/**
 * longhaul from a program: submit requests, follow a batch, read its outcomes. What the command line does with the same
 * names, over the same Redis and S3; answers come from cohorts that run elsewhere.
 *
 * ```ts
 * import { Longhaul } from 'longhaul';
 *
 * const longhaul = await Longhaul.open({ redisUrl: 'redis://queue:6379', s3Bucket: 'answers', modelDir: '/models/llama' });
 * try {
 *   const { id } = await longhaul.submit([
 *     { custom_id: 'contract-17', document: { path: 'contracts/17.txt' }, question: 'When does it end?' },
 *   ]);
 *   await longhaul.wait(id);
 *   for await (const outcome of longhaul.outcomes(id)) console.log(outcome.custom_id, outcome.answers[0]?.text);
 * } finally {
 *   longhaul.close();
 * }
 * ```
 *
 * @module
 */
export {
  Longhaul,
  type LonghaulSettings,
  type RequestInput,
  type Retried,
  type RetryOptions,
  type SubmitOptions,
  type WaitOptions,
} from './longhaul.js';
export type { Submitted } from '../producer/submit.js';
export type { Results } from '../batch/results.js';
