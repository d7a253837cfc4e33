import { Command } from 'commander';
import { listCohorts } from '../batch/cohorts.js';
import { listBatches } from '../batch/list.js';
import { getStatus } from '../batch/status.js';
import type { BatchStatus } from '../contracts/status.js';
import { ifFound, NotFoundError } from '../platform/errors.js';
import { printJson, printLine, withBatches, type CommandContext } from './context.js';
import { describeCounts, describeDetached, follow, watchBatch } from './progress.js';
import { describeTotals } from './totals.js';

interface Flags {
  watch?: boolean;
  json?: boolean;
  limit: string;
}

/** `longhaul status [BATCH]` */
export function statusCommand(): Command {
  return new Command('status')
    .description('how far a batch is, or all batches and cohorts')
    .argument('[batch]', 'id of the batch')
    .option('--watch', 'follow the batch (without one: the newest) until it has ended')
    .option('--limit <n>', 'list at most this many batches, newest first', '20')
    .option('--json', 'print JSON')
    .action(async (id: string | undefined, options: Flags, command: Command) => {
      await withBatches(command, async (context) => {
        if (options.watch === true) await watch(context, id, options);
        else if (id === undefined) await list(context, options);
        else {
          const status = await getStatus(context, id, context.signal);
          show(status, options, await secondOf(context, status));
        }
      });
    });
}

async function watch(context: CommandContext, id: string | undefined, options: Flags): Promise<void> {
  const [newest] = id === undefined ? await listBatches(context, { limit: 1 }, context.signal) : [];
  const watched = id ?? newest?.id;
  if (watched === undefined) throw new NotFoundError('there is no batch to watch; submit one first');
  try {
    const end = await watchBatch(follow(context, watched, context.signal), context.signal);
    show(end, options, await secondOf(context, end));
  } catch (error) {
    if (!context.signal.aborted) throw error;
    process.stderr.write(describeDetached(watched));
    process.exitCode = 130;
  }
}

async function list(context: CommandContext, options: Flags): Promise<void> {
  const limit = Math.max(1, Number.parseInt(options.limit, 10) || 20);
  const batches = await listBatches(context, { limit }, context.signal);
  const cohorts = await listCohorts(context.redis);
  if (options.json === true) {
    printJson({ batches, cohorts });
    return;
  }
  if (batches.length === 0) printLine('no batches; submit one with: longhaul submit FILE.jsonl');
  for (const batch of batches) {
    const totals = describeTotals(batch);
    printLine(
      `${batch.id}  ${describeCounts(batch)}${totals === null ? '' : `; ${totals}`}  (${batch.input})`,
    );
  }
  if (cohorts.length === 0)
    printLine('no cohort has reported; answers need one: longhaul worker, or longhaul local up');
  for (const { name, ...state } of cohorts) {
    const facts = Object.entries(state).filter(([field]) => field !== 'state' && field !== 'updated_at');
    printLine(`cohort ${name}: ${state['state'] ?? 'unknown'}, ${facts.map((f) => f.join(' ')).join(', ')}`);
  }
}

/** The batch over the answers of its parts. */
async function secondOf(context: CommandContext, { then }: BatchStatus): Promise<BatchStatus | undefined> {
  return then === null ? undefined : ifFound(getStatus(context, then, context.signal));
}

function show(status: BatchStatus, options: Flags, second?: BatchStatus): void {
  if (options.json === true) {
    printJson(status);
    return;
  }
  const time = (seconds: number) => new Date(seconds * 1000).toISOString();
  printLine(`${status.id} (${status.input})`);
  printLine(describeCounts(status));
  const totals = describeTotals(status);
  if (totals !== null) printLine(totals);
  printLine(`created ${time(status.created_at)}`);
  if (status.expires_at !== null) printLine(`expires ${time(status.expires_at)}`);
  if (status.cancel_requested_at !== null) printLine(`cancel asked ${time(status.cancel_requested_at)}`);
  if (status.completed_at !== null) printLine(`finished ${time(status.completed_at)}`);
  for (const { item, phase, done, total, document_tokens } of status.active) {
    printLine(`document ${item}: ${phase} ${done}/${total}, ${document_tokens} tokens`);
  }
  for (const back of status.given_back) printLine(describeGivenBack(back));
  if (status.then_of !== null) printLine(`over the answers of the parts of ${status.then_of}`);
  if (second !== undefined) printLine(`then ${second.id}: ${describeCounts(second)}`);
  if (status.completed_at !== null) printLine(`fetch it with: longhaul results ${status.id}`);
}

function describeGivenBack(back: BatchStatus['given_back'][number]): string {
  const { item, infrastructure_faults: faults, last_fault, engine_deaths: deaths } = back;
  const times = (count: number, noun: string) => `${count} ${noun}${count === 1 ? '' : 's'}`;
  const told = [
    ...(faults > 0 ? [`${times(faults, 'fault')}, last ${last_fault ?? 'not known'}`] : []),
    ...(deaths > 0 ? [`${times(deaths, 'cohort')} ended by it`] : []),
  ];
  return `document ${item} was given back: ${told.join('; ')}`;
}
