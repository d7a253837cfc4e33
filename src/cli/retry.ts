import { Command, InvalidArgumentError } from 'commander';
import { RETRYABLE, retryBatch, type Retried, type RetryInput } from '../batch/retry.js';
import type { Unanswered } from '../batch/unanswered.js';
import { printJson, printLine, withBatches } from './context.js';
import { wholeNumber, wholePriority } from './numbers.js';
import { parseWindow } from './window.js';

export interface RetryFlags {
  ranks?: number;
  window?: number;
  priority?: number;
  new?: boolean;
  json?: boolean;
}

/** `longhaul retry BATCH` */
export function retryCommand(): Command {
  const command = new Command('retry')
    .description('make a new batch of those requests of a finished one that have no answer')
    .argument('<batch>', 'id of the finished batch')
    .option('--only <ends>', 'any of failed,expired,cancelled', readEnds, [
      'failed',
      'expired',
    ] as Unanswered[]);
  return addRetryOptions(command).action(
    async (id: string, { only, ...flags }: RetryFlags & { only: Unanswered[] }, command: Command) => {
      const input = { only, ...retryInput(flags) };
      const retried = await withBatches(command, (context) => retryBatch(context, id, input, context.signal));
      printRetried(retried, flags);
    },
  );
}

export function addRetryOptions(command: Command): Command {
  return command
    .option('--ranks <n>', 'ranks that share a document (default: as before)', ranks)
    .option(
      '--window <time>',
      'end what still waits after this long as expired: 90m, 24h, 7d (default: as before)',
      parseWindow,
    )
    .option('--priority <n>', '-100 to 100, higher runs first (default: as before)', wholePriority)
    .option('--new', 'make another batch even if these requests were retried before')
    .option('--json', 'print one JSON object on stdout')
    .addHelpText(
      'after',
      '\nExit codes: 0 enqueued, 1 error, 2 the batch is not finished yet, 64 wrong usage',
    );
}

export function retryInput({ ranks, window, priority, ...flags }: RetryFlags): RetryInput {
  return { ranks, windowSeconds: window, priority, isNew: flags.new };
}

export function printRetried({ id, created, header }: Retried, flags: RetryFlags): void {
  const { retry_of, options, totals } = header;
  process.stderr.write(
    created
      ? `retry of ${retry_of}: ${totals.requests} requests, ${totals.documents} documents\n`
      : `these requests of ${retry_of} were retried before (--new makes another batch)\n`,
  );
  if (flags.json === true) printJson({ id, created, retry_of, options, totals });
  else printLine(id);
}

function readEnds(text: string): Unanswered[] {
  const ends = text.split(',').map((end) => end.trim());
  const unknown = ends.filter((end) => !(RETRYABLE as readonly string[]).includes(end));
  if (unknown.length > 0)
    throw new InvalidArgumentError(`is any of ${RETRYABLE.join(',')}, not ${unknown.join(',')}`);
  return RETRYABLE.filter((end) => ends.includes(end));
}

function ranks(text: string): number {
  const value = wholeNumber(text);
  if (value < 1 || value > 64) throw new InvalidArgumentError('must be 1 to 64');
  return value;
}
