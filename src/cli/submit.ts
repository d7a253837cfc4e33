import { Command, InvalidArgumentError, Option } from 'commander';
import { downloadResults } from '../batch/results.js';
import { getStatus } from '../batch/status.js';
import type { BatchDeps } from '../batch/queues.js';
import type { RunOptions } from '../contracts/request.js';
import { checkRedis } from '../platform/redis.js';
import type { StageProgress } from '../producer/stage-documents.js';
import { submit, type Submitted } from '../producer/submit.js';
import { printJson, printLine, withBatches, type CommandContext } from './context.js';
import { describeCounts, watchBatch } from './progress.js';

const EXIT = { notAllAnswered: 2, detached: 130 } as const;

interface Flags {
  wait?: boolean;
  out?: string;
  method: RunOptions['method'];
  anchor?: number;
  passing?: number;
  new?: boolean;
  expires?: number;
  allowTooLong?: boolean;
  json?: boolean;
}

/** `longhaul submit FILE.jsonl` */
export function submitCommand(): Command {
  return new Command('submit')
    .description('check a file of requests, store its documents and enqueue it as a batch')
    .argument('<file>', 'JSON lines: custom_id, document, question or questions, ...')
    .option('--wait', 'follow the batch until it has ended')
    .option('--out <dir>', 'then download output.jsonl, error.jsonl and _SUCCESS (implies --wait)')
    .addOption(
      new Option('--method <name>', 'how documents are run').choices(['full', 'star', 'apb']).default('apb'),
    )
    .option('--ranks <n>', "ranks that share a document (default: the configuration's)", wholeNumber)
    .option(
      '--anchor <tokens>',
      "l_a (default: the model's share of the longest document's block)",
      wholeNumber,
    )
    .option('--passing <tokens>', 'l_p, apb only (default: likewise)', wholeNumber)
    .option('--new', 'make another batch even if the same one was submitted before')
    .option('--expires <hours>', 'end what still waits after this long as expired', positiveNumber)
    .option('--allow-too-long', 'accept documents that the model cannot hold; their requests end as errors')
    .option('--json', 'print one JSON object on stdout')
    .addHelpText(
      'after',
      `
Exit codes:
  0    submitted; with --wait: every request is answered
  1    refused or failed; a refused file enqueues nothing
  2    with --wait: the batch has ended, but some requests were not answered (see error.jsonl)
  64   wrong usage
  130  Ctrl-C: with --wait, the batch goes on without us`,
    )
    .action(async (file: string, flags: Flags, command: Command) => {
      await withBatches(command, (context) => runSubmit(file, flags, context), { checkLater: true });
    });
}

async function runSubmit(
  file: string,
  flags: Flags,
  { config, signal, ...deps }: CommandContext,
): Promise<void> {
  const { method, anchor, passing } = flags;
  const submitted = await submit(deps, {
    file,
    modelDir: config.modelDir,
    headsFile: config.headsFile,
    options: { method, ranks: config.ranks, anchor, passing },
    isNew: flags.new,
    expiresHours: flags.expires,
    allowTooLong: flags.allowTooLong,
    // A bad file is told as such also where Redis is away.
    onParsed: () => checkRedis(deps.redis, config.redisUrl),
    onProgress: stageReporter(),
    signal,
  });
  process.stderr.write(describeSubmitted(submitted) + '\n');
  if (flags.wait === true || flags.out !== undefined) await follow(deps, submitted, flags, signal);
  else print(flags, submitted, submitted.id);
}

async function follow(
  deps: BatchDeps,
  submitted: Submitted,
  flags: Flags,
  signal: AbortSignal,
): Promise<void> {
  const { id } = submitted;
  try {
    const status = await watchBatch(() => getStatus(deps, id, signal), signal);
    const files = flags.out === undefined ? undefined : await downloadResults(deps, id, flags.out, signal);
    const text = [describeCounts(status), ...(files === undefined ? [] : [files.output, files.error])];
    print(flags, { ...submitted, status, files }, [id, ...text].join('\n'));
    if (status.request_counts.answered < status.request_counts.total) process.exitCode = EXIT.notAllAnswered;
  } catch (error) {
    if (!signal.aborted) throw error;
    process.stderr.write(
      `\ndetached; the batch goes on. Come back with: longhaul status ${id} --watch\nand then: longhaul results ${id}\n`,
    );
    process.exitCode = EXIT.detached;
  }
}

/** One line that is rewritten on a terminal; nothing elsewhere, where only the end matters. */
function stageReporter(): ((progress: StageProgress) => void) | undefined {
  if (!process.stderr.isTTY) return undefined;
  return ({ done, total, tokens }) => {
    process.stderr.write(
      `\rdocuments read: ${done} of ${total}, ${tokens} tokens${done === total ? '\n' : ''}`,
    );
  };
}

function describeSubmitted({ id, created, options, totals, documentTokens }: Submitted): string {
  const { requests, questions, documents } = totals;
  const sizes = options.method === 'apb' ? `, l_a ${options.anchor}, l_p ${options.passing}` : '';
  const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? '' : 's'}`;
  const how = `${options.method} on ${count(options.ranks, 'rank')}${sizes}`;
  const what = `${count(requests, 'request')}, ${count(questions, 'question')}, ${count(documents, 'document')}, ${documentTokens} tokens; ${how}`;
  return created ? `submitted ${id}: ${what}` : `${id} was submitted before (--new makes another): ${what}`;
}

function print(flags: Flags, value: object, text: string): void {
  if (flags.json === true) printJson(value);
  else printLine(text);
}

function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('must be a whole number');
  return Number(text);
}

function positiveNumber(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 24 * 365)) throw new InvalidArgumentError('must be above 0 and at most 8760');
  return value;
}
