/**
 * The data that longhaul reads and writes, as types and as zod schemas of the same name in small letters: the lines of a
 * request file, the manifest of a batch, outcomes, the status of a batch.
 *
 * @module
 */
export {
  documentSource,
  requestLine,
  runOptions,
  type DocumentFormat,
  type RequestLine,
  type RunOptions,
} from '../contracts/request.js';
export {
  manifestHeader,
  manifestRequest,
  modelDigests,
  type Manifest,
  type ManifestHeader,
  type ManifestRequest,
  type ModelDigests,
} from '../contracts/manifest.js';
export { outcome, success, type Outcome, type OutcomeStatus, type Success } from '../contracts/outcome.js';
export { batchStatus, requestCounts, type BatchStatus, type RequestCounts } from '../contracts/status.js';
export { batchWork, tokenUsage, type BatchWork, type TokenUsage } from '../contracts/totals.js';
export { answer, execution, type Answer, type Execution } from '../contracts/work-item.js';
