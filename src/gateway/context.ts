import type { Queue } from 'bullmq';
import type { BatchDeps } from '../batch/queues.js';
import type { Config } from '../platform/config.js';
import type { Logger } from '../platform/logger.js';
import type { ApiKeys } from './api-keys.js';

/** Data of a `validate` job. */
export interface ValidateJob {
  owner: string;
  id: string;
}

/** What the parts of one gateway process share. */
export interface GatewayContext extends BatchDeps {
  config: Config;
  logger: Logger;
  keys: ApiKeys;
  validation: Queue<ValidateJob>;
  /** Aborted when the process is to end: `/readyz` says no. */
  signal: AbortSignal;
}
