import { Command, InvalidArgumentError } from 'commander';
import { RETRYABLE, retryBatch, type RetryInput } from '../batch/retry.js';
import type { Unanswered } from '../batch/unanswered.js';
import { printJson, printLine, withBatches } from './context.js';
import { hours, wholeNumber } from './numbers.js';

export interface RetryFlags {
  ranks?: number;
  expires?: number;
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
      await runRetry(command, id, { only }, flags);
    },
  );
}

export function addRetryOptions(command: Command): Command {
  return command
    .option('--ranks <n>', 'ranks that share a document (default: as before)', ranks)
    .option(
      '--expires <hours>',
      'end what still waits after this long as expired (default: as before)',
      hours,
    )
    .option('--new', 'make another batch even if these requests were retried before')
    .option('--json', 'print one JSON object on stdout')
    .addHelpText(
      'after',
      '\nExit codes: 0 enqueued, 1 error, 2 the batch is not finished yet, 64 wrong usage',
    );
}

export async function runRetry(
  command: Command,
  source: string,
  chosen: Pick<RetryInput, 'only' | 'items'>,
  flags: RetryFlags,
): Promise<void> {
  const input = { ...chosen, ranks: flags.ranks, expiresHours: flags.expires, isNew: flags.new };
  const retried = await withBatches(command, (context) => retryBatch(context, source, input, context.signal));
  const { id, created, header } = retried;
  const { requests, documents } = header.totals;
  process.stderr.write(
    created
      ? `retry of ${source}: ${requests} requests, ${documents} documents\n`
      : `these requests of ${source} were retried before (--new makes another batch)\n`,
  );
  if (flags.json === true)
    printJson({ id, created, retry_of: source, options: header.options, totals: header.totals });
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
