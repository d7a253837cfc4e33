import type { ManifestCache } from '../batch/manifest-cache.js';
import type { BatchDeps, Queues } from '../batch/queues.js';
import type { Config } from '../platform/config.js';
import type { Logger } from '../platform/logger.js';
import type { Access } from './access.js';
import type { BatchIndex } from './batch-index.js';
import type { Live } from './live.js';

/** What the parts of one dashboard process share. */
export interface DashboardContext extends BatchDeps {
  config: Config;
  logger: Logger;
  queues: Queues;
  manifests: ManifestCache;
  index: BatchIndex;
  access: Access;
  live: Live;
}
