/**
 * What longhaul throws. Every error has a stable `code`, and a sentence with the offending value and the remedy.
 *
 * @module
 */
export {
  ConfigError,
  DocumentError,
  InfrastructureError,
  InputError,
  LonghaulError,
  NotFoundError,
  StoreError,
  UnsupportedError,
  type InputProblem,
} from '../platform/errors.js';
export { ERROR_CODES, type ErrorCode } from './error-codes.js';
