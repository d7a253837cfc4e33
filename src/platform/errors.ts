/**
 * One class per cause. Every error carries a stable `code`, and a sentence that names the offending
 * value and the remedy; `cause` keeps what lies beneath. The command line prints `message` and
 * `code`, never a stack.
 */
export class LonghaulError extends Error {
  constructor(
    readonly code: string,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A setting is missing, malformed or contradicts another one. */
export class ConfigError extends LonghaulError {
  constructor(message: string, options?: { cause?: unknown }) {
    super('CONFIG', message, options);
  }
}

/** The model cannot be run in the way that was asked for. */
export class UnsupportedError extends LonghaulError {
  constructor(message: string) {
    super('UNSUPPORTED', message);
  }
}

/** One thing wrong with an input file, tied to its line (1-based; 0: the whole file) and field. */
export interface InputProblem {
  line: number;
  field: string;
  message: string;
}

/** An input file was refused whole; `problems` lists the first of all that were found. Nothing was enqueued. */
export class InputError extends LonghaulError {
  constructor(
    readonly file: string,
    readonly problems: InputProblem[],
    readonly total = problems.length,
  ) {
    const lines = problems.map((p) => `\n  line ${p.line}, ${p.field}: ${p.message}`);
    const more = total > problems.length ? `\n  and ${total - problems.length} more` : '';
    super(
      'INPUT',
      `${file}: ${total} problem${total === 1 ? '' : 's'}, nothing was submitted${lines.join('')}${more}`,
    );
  }
}

/** A document cannot be answered, however often it is tried: final for its requests. */
export class DocumentError extends LonghaulError {}

/** A peer, the network, Redis or S3 failed: another try may succeed. */
export class InfrastructureError extends LonghaulError {}

/** A conditional write found an object with other bytes, or a store broke its contract. */
export class StoreError extends LonghaulError {}

/** Something named by the person does not exist (a batch, a cohort). */
export class NotFoundError extends LonghaulError {
  constructor(message: string) {
    super('NOT_FOUND', message);
  }
}

/** What was asked for, or undefined where that is a NotFoundError. */
export async function ifFound<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

/** The text and code of anything thrown, for logs and outcomes. */
export function describeError(error: unknown): { code: string; message: string } {
  if (error instanceof Error) {
    const code = 'code' in error && typeof error.code === 'string' ? error.code : 'INTERNAL';
    return { code, message: error.message };
  }
  return { code: 'INTERNAL', message: String(error) };
}
