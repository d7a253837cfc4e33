import { z } from 'zod';
import { digest } from './manifest.js';
import { engineDeath } from './work-item.js';

/**
 * `dead/<batch>/<index>.json`: a work item that is not tried again because it ended cohorts. Written
 * once, before its requests' outcomes, so that it outlives Redis and the job.
 */
export const deadItem = z.strictObject({
  format: z.literal('longhaul-dead/1'),
  batch_id: z.string(),
  item: z.int().min(0),
  document: z.strictObject({ sha256: digest, tokens: z.int().min(1) }),
  custom_ids: z.array(z.string()).min(1),
  code: z.string(),
  message: z.string(),
  history: z.array(engineDeath),
});
export type DeadItem = z.infer<typeof deadItem>;
