import { LonghaulError } from '../../platform/errors.js';

/** The file is no archive that PyTorch wrote, or it is damaged or truncated. */
export class ArchiveError extends LonghaulError {
  constructor(message: string, options?: { cause?: unknown }) {
    super('HEADS_ARCHIVE', message, options);
  }
}

/** The pickle inside asks for something that is no tensor; nothing of it was executed. */
export class PickleError extends LonghaulError {
  constructor(message: string) {
    super('HEADS_PICKLE', `${message}; only a dictionary of tensors is read, and nothing is executed`);
  }
}

/** The tensors are no retaining heads. */
export class HeadsContentError extends LonghaulError {
  constructor(message: string) {
    super('HEADS_CONTENT', message);
  }
}
