import { CommanderError } from 'commander';
import { describeError } from '../platform/errors.js';
import { stopTracing } from '../platform/tracing.js';
import { createProgram } from './program.js';

/** `usage` is EX_USAGE of sysexits.h: apart from `incomplete`, which says something about a batch. */
const EXIT = { ok: 0, error: 1, incomplete: 2, usage: 64, interrupted: 130 } as const;

function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  const { code } = describeError(error);
  return code === 'NOT_FINISHED' ? EXIT.incomplete : code === 'INTERRUPTED' ? EXIT.interrupted : EXIT.error;
}

// `longhaul status | head`: whoever reads has had enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(EXIT.ok);
});

try {
  await createProgram().parseAsync();
} catch (error) {
  process.exitCode = exitCodeOf(error);
  // Commander has printed its own already.
  if (!(error instanceof CommanderError)) {
    const { code, message } = describeError(error);
    process.stderr.write(`longhaul: ${message} [${code}]\n`);
  }
} finally {
  await stopTracing();
}
