import { Command, InvalidArgumentError, Option } from 'commander';
import { lanesSet } from '../batch/lanes.js';
import { downloadResults } from '../batch/results.js';
import type { BatchDeps } from '../batch/queues.js';
import { TENANT } from '../contracts/manifest.js';
import { ANCHOR_QUERIES, BLOCKS, METHODS, RING_LAYOUTS, SELECTS } from '../contracts/request.js';
import type { Policy } from '../plan/choose.js';
import { ConfigError } from '../platform/errors.js';
import { checkRedis } from '../platform/redis.js';
import type { ChosenOptions } from '../producer/run-options.js';
import type { StageProgress } from '../producer/stage-documents.js';
import { submit, type SubmitInput, type Submitted } from '../producer/submit.js';
import { sourcePolicy } from '../text/source-policy.js';
import { keptCalibration, planFacts } from './calibration.js';
import { printJson, printLine, withBatches, type CommandContext } from './context.js';
import { describeCounts, describeDetached, follow, watchBatch } from './progress.js';
import { describeTotals } from './totals.js';
import { wholeNumber, wholePriority } from './numbers.js';
import { policyOption } from './plan.js';
import { parseWindow } from './window.js';

const EXIT = { notAllAnswered: 2, detached: 130 } as const;

interface Flags extends Omit<ChosenOptions, 'ranks' | 'method'> {
  method: ChosenOptions['method'] | 'auto';
  policy?: Policy;
  wait?: boolean;
  out?: string;
  new?: boolean;
  window?: number;
  priority?: number;
  tenant?: string;
  idempotencyKey?: string;
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
      new Option('--method <name>', 'how documents are run; auto: as longhaul plan says for the longest')
        .choices([...METHODS, 'auto'])
        .default('apb'),
    )
    .addOption(policyOption('with --method auto (default: balanced): '))
    .option('--ranks <n>', "ranks that share a document (default: the configuration's)", wholeNumber)
    .option(
      '--anchor <tokens>',
      "l_a (default: the model's share of the longest document's block)",
      wholeNumber,
    )
    .option('--passing <tokens>', 'l_p, apb only (default: likewise)', wholeNumber)
    .addOption(
      new Option(
        '--select <how>',
        'how apb chooses what it passes on (default: heads when the model has them, otherwise spava)',
      ).choices(SELECTS),
    )
    .addOption(
      new Option(
        '--anchor-query <which>',
        'the questions that an anchor of apb carries: all that fit half of it, one, or none (default: all)',
      ).choices(ANCHOR_QUERIES),
    )
    .addOption(
      new Option(
        '--blocks <how>',
        "even, or balanced by the cohort's measured rates (default: even)",
      ).choices(BLOCKS),
    )
    .addOption(
      new Option(
        '--ring-layout <name>',
        'ring only (default: zigzag, with balanced blocks contiguous)',
      ).choices(RING_LAYOUTS),
    )
    .option('--new', 'make another batch even if the same one was submitted before')
    .option('--window <time>', 'end what still waits after this long as expired: 90m, 24h, 7d', parseWindow)
    .option('--priority <n>', '-100 to 100, higher runs first (default: 0)', wholePriority)
    .option(
      '--tenant <name>',
      'whose it is: batches of one tenant share its turns at cohorts (default: each batch has its own)',
      parseTenant,
    )
    .option(
      '--idempotency-key <key>',
      'the same key with the same content is one batch, also with --new; with other content it is an error',
      parseKey,
    )
    .option('--document-root <dir>', 'refuse documents named by path that are not below this folder')
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
  const options = await runOptions(flags, config, signal);
  const submitted = await submit(deps, {
    file,
    policy: sourcePolicy(config),
    modelDir: config.modelDir,
    headsFile: config.headsFile,
    options,
    isNew: flags.new,
    windowSeconds: flags.window,
    priority: flags.priority,
    tenant: flags.tenant,
    lanes: lanesSet(config),
    idempotencyKey: flags.idempotencyKey,
    allowTooLong: flags.allowTooLong,
    // A bad file is told as such also where Redis is away.
    onParsed: () => checkRedis(deps.redis, config.redisUrl),
    onProgress: reporter(
      ({ done, total, tokens }: StageProgress) => `documents read: ${done} of ${total}, ${tokens} tokens`,
    ),
    onItems: reporter(({ done, total }) => `work items written: ${done} of ${total}`),
    signal,
  });
  process.stderr.write([describeSubmitted(submitted), ...keptOnes(submitted, flags), ''].join('\n'));
  if (flags.wait === true || flags.out !== undefined) await wait(deps, submitted, flags, signal);
  else print(flags, submitted, submitted.id);
}

async function runOptions(
  { method, policy, anchor, passing, select, anchorQuery, blocks, ringLayout }: Flags,
  config: CommandContext['config'],
  signal: AbortSignal,
): Promise<SubmitInput['options']> {
  const { ranks } = config;
  const named = { anchor, passing, select, anchorQuery, blocks, ringLayout };
  if (method !== 'auto') {
    if (policy === undefined) return { method, ranks, ...named };
    throw new ConfigError(`--policy ${policy} belongs to --method auto; leave it out with ${method}`);
  }
  const [extra] = Object.entries(named).find(([, value]) => value !== undefined) ?? [];
  if (extra !== undefined) {
    const flag = extra.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    throw new ConfigError(`--method auto chooses --${flag} itself; leave it out, or name a method`);
  }
  const kept = await keptCalibration(config, signal);
  if (kept === undefined) {
    throw new ConfigError(
      '--method auto needs a calibration of this model on a machine of the cohort; make it with longhaul plan --calibrate, or name its file with calibrationFile',
    );
  }
  return { method, ranks, policy: policy ?? 'balanced', facts: await planFacts(config, kept) };
}

async function wait(deps: BatchDeps, submitted: Submitted, flags: Flags, signal: AbortSignal): Promise<void> {
  const { id } = submitted;
  try {
    const status = await watchBatch(follow(deps, id, signal), signal);
    const files = flags.out === undefined ? undefined : await downloadResults(deps, id, flags.out, signal);
    const totals = describeTotals(status);
    const text = [
      describeCounts(status),
      ...(totals === null ? [] : [totals]),
      ...(files === undefined ? [] : [files.output, files.error]),
    ];
    print(flags, { ...submitted, status, files }, [id, ...text].join('\n'));
    if (status.request_counts.answered < status.request_counts.total) process.exitCode = EXIT.notAllAnswered;
  } catch (error) {
    if (!signal.aborted) throw error;
    process.stderr.write(describeDetached(id));
    process.exitCode = EXIT.detached;
  }
}

interface Steps {
  done: number;
  total: number;
}

/** One line that is rewritten on a terminal, ten times a second at most; nothing elsewhere, where only the end matters. */
function reporter<T extends Steps>(describe: (progress: T) => string): ((progress: T) => void) | undefined {
  if (!process.stderr.isTTY) return undefined;
  let last = 0;
  return (progress) => {
    const ended = progress.done === progress.total;
    if (!ended && Date.now() - last < 100) return;
    last = Date.now();
    process.stderr.write(`\r${describe(progress)}${ended ? '\n' : ''}`);
  };
}

/** What a batch that was submitted before has kept against the flags of now. */
function keptOnes({ created, priority, expiresAt }: Submitted, flags: Flags): string[] {
  if (created) return [];
  const kept: string[] = [];
  if (flags.priority !== undefined && flags.priority !== priority) {
    kept.push(`its priority stays ${priority}; --priority ${flags.priority} was not applied`);
  }
  if (flags.window !== undefined) {
    const until =
      expiresAt === null ? 'it never expires' : `it expires ${new Date(expiresAt * 1000).toISOString()}`;
    kept.push(`${until}, as first submitted; --window was not applied`);
  }
  return kept;
}

function describeSubmitted({ id, created, options, why, totals, documentTokens }: Submitted): string {
  const { requests, questions, documents } = totals;
  const sizes =
    options.method === 'apb'
      ? `, l_a ${options.anchor}, l_p ${options.passing} by ${options.select}`
      : options.ring_layout === null
        ? ''
        : `, ${options.ring_layout}`;
  const blocks = options.blocks === 'balanced' ? ', balanced blocks' : '';
  const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? '' : 's'}`;
  const how = `${options.method} on ${count(options.ranks, 'rank')}${sizes}${blocks}`;
  const what = `${count(requests, 'request')}, ${count(questions, 'question')}, ${count(documents, 'document')}, ${documentTokens} tokens; ${how}`;
  const because = why === undefined ? '' : `\n${why}`;
  return created
    ? `submitted ${id}: ${what}${because}`
    : `${id} was submitted before (--new makes another): ${what}${because}`;
}

function print(flags: Flags, value: object, text: string): void {
  if (flags.json === true) printJson(value);
  else printLine(text);
}

function parseTenant(text: string): string {
  if (TENANT.test(text)) return text;
  throw new InvalidArgumentError(
    'must be 1 to 64 letters, digits, - and _, and begin with a letter or digit',
  );
}

function parseKey(text: string): string {
  if (text.trim() === '' || text.length > 256) throw new InvalidArgumentError('must be 1 to 256 characters');
  return text;
}
