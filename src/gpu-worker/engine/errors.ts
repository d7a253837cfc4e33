import { LonghaulError } from '../../platform/errors.js';

/**
 * What the engine refuses or fails with. Codes:
 * - `ENGINE_CONFIG`, `ENGINE_SAFETENSORS`, `ENGINE_INVALID_ARGUMENT`, `ENGINE_OUT_OF_MEMORY`,
 *   `ENGINE_TOO_LONG`, `ENGINE_UNSUPPORTED`, `ENGINE_NOT_FINITE`, `ENGINE_DISPOSED`,
 *   `ENGINE_INTERNAL`, `ENGINE_ADDON`
 * - `ENGINE_TOO_LONG_FOR_MEMORY`: a rank has no room for its part of the document; the communicator lives
 * - `ENGINE_STOPPED`: requestStop() took effect on all ranks; the communicator lives
 * - `COMM_ABORTED`, `COMM_PEER_LOST`, `COMM_DEADLINE`, `COMM_REFUSED`, `COMM_PROTOCOL`: the
 *   communicator is lost; `peer` is the rank at fault where that is known
 */
export class EngineError extends LonghaulError {
  declare readonly peer?: number;

  constructor(code: string, message: string, peer?: number, options?: { cause?: unknown }) {
    super(code, message, options);
    if (peer !== undefined) this.peer = peer;
  }

  /** A native error (`code`, perhaps `peer`) as an EngineError; anything else as it is. */
  static from(error: unknown, cause?: unknown): unknown {
    if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return error;
    const peer = 'peer' in error && typeof error.peer === 'number' ? error.peer : undefined;
    return new EngineError(error.code, error.message, peer, cause === undefined ? undefined : { cause });
  }
}
