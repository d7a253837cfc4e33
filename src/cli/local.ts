import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { down } from '../local/down.js';
import { packageRoot } from '../local/layout.js';
import { engineIsBuilt } from '../local/native-engine.js';
import { localStatus, type LocalStatus } from '../local/status.js';
import { supervise } from '../local/supervisor.js';
import { up, type UpResult } from '../local/up.js';
import type { Settings } from '../platform/config.js';
import { shutdownSignal } from '../platform/shutdown.js';
import { buildWithProgress } from './build-engine.js';
import { printJson, printLine } from './context.js';

const toStderr = (text: string): void => void process.stderr.write(`local: ${text}\n`);
const folder = [
  '--dir <folder>',
  'where data, logs and settings of this stack are kept',
  '.longhaul',
] as const;

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError('a whole number from 1 is expected.');
  return value;
}

interface UpFlags {
  dir: string;
  ranks: number;
  backend: Settings['backend'];
  threads?: number;
  comm?: Settings['comm'];
  cpuPrecision?: Settings['cpuPrecision'];
  model: string;
  headsFile?: string;
  timeout: number;
  json?: boolean;
  profile?: Settings['profile'];
  logLevel?: Settings['logLevel'];
}

/** `longhaul local up | down | status`: Redis, S3, aggregator, scheduler, one cohort and the dashboard on this machine. */
export function localCommand(): Command {
  const local = new Command('local').description('run all that longhaul needs on this machine');
  local
    .command('up')
    .description(
      'start Redis, a local S3 server, the aggregator, the scheduler, a cohort and the dashboard; returns when they serve',
    )
    .option(...folder)
    .option('--ranks <number>', 'ranks of the cohort', wholeNumber, 4)
    .addOption(
      new Option('--backend <name>', 'what computes').choices(['cpu', 'cuda', 'auto']).default('cpu'),
    )
    .option('--threads <number>', 'compute threads of each rank; default: the cores, shared out', wholeNumber)
    .addOption(
      new Option('--comm <name>', 'what the ranks exchange through').choices(['tcp', 'nccl', 'auto']),
    )
    .addOption(
      new Option('--cpu-precision <name>', "what the CPU's linear layers multiply").choices([
        'float32',
        'bf16',
      ]),
    )
    .addOption(
      new Option('--model <directory>', 'model directory').default(
        join(packageRoot, 'models', 'demo'),
        'the demo model',
      ),
    )
    .option('--heads-file <file>', 'retaining heads, when not in the model directory')
    .option('--timeout <seconds>', 'how long to wait until everything serves', wholeNumber, 300)
    .option('--json', 'print the result as JSON')
    .action(async (_options: unknown, command: Command) => {
      const flags = command.optsWithGlobals<UpFlags>();
      const { signal, dispose } = shutdownSignal();
      try {
        if (!engineIsBuilt()) {
          toStderr(
            'the native engine is not built yet: this once, in a minute or two, with make and a C++20 compiler',
          );
          await buildWithProgress(signal);
        }
        const result = await up({
          folder: flags.dir,
          ranks: flags.ranks,
          backend: flags.backend,
          threads: flags.threads ?? Math.max(1, Math.floor(availableParallelism() / flags.ranks)),
          comm: flags.comm,
          cpuPrecision: flags.cpuPrecision,
          modelDir: flags.model,
          headsFile: flags.headsFile,
          profile: flags.profile ?? 'normal',
          logLevel: flags.logLevel,
          timeoutMs: flags.timeout * 1000,
          report: toStderr,
          signal,
        });
        if (flags.json) printJson(result);
        else printUp(result);
      } finally {
        dispose();
      }
    });
  local
    .command('down')
    .description('stop everything that `local up` started; data stay')
    .option(...folder)
    .option('--json', 'print what was stopped as JSON')
    .action(async ({ dir, json }: { dir: string; json?: boolean }) => {
      const { ended } = await down(dir, toStderr);
      if (json === true) {
        printJson({ ended });
        return;
      }
      if (ended.length === 0) printLine('nothing was up');
      for (const what of ended) printLine(`stopped ${what}`);
    });
  local
    .command('status')
    .description('show each process; exit code 1 when the stack is not up')
    .option(...folder)
    .option('--json', 'print as JSON')
    .action(async ({ dir, json }: { dir: string; json?: boolean }) => {
      const status = await localStatus(dir);
      if (json) printJson(status);
      else printStatus(status);
      if (status.state !== 'up') process.exitCode = 1;
    });
  local
    .command('supervise', { hidden: true })
    .description('what `local up` leaves in the background')
    .option(...folder)
    .action(({ dir }: { dir: string }) => supervise(dir));
  return local;
}

function printUp(result: UpResult): void {
  printLine(`redis     ${result.redisUrl}`);
  printLine(
    `s3        ${result.s3Endpoint}, bucket ${result.s3Bucket} (for development, not for production)`,
  );
  printLine(`dashboard ${result.dashboard}`);
  printLine(`settings  ${result.settingsFile}`);
  for (const log of result.logs) printLine(`log       ${log}`);
}

function printStatus(status: LocalStatus): void {
  const notes = { up: '', down: '', crashed: ': its supervisor is gone; run `longhaul local up` or `down`' };
  printLine(`${status.dir}: ${status.state}${notes[status.state]}`);
  if (status.cohort !== undefined) printLine(`cohort: ${status.cohort}`);
  if (status.dashboard !== undefined) printLine(`dashboard: ${status.dashboard}`);
  const rows = status.processes.map((p) => [
    p.name,
    p.pid === undefined ? '-' : String(p.pid),
    p.uptimeSeconds === undefined ? 'not running' : `up ${p.uptimeSeconds} s`,
    `${p.restarts} restarts`,
    p.lastExit === undefined ? '' : `last: ${p.lastExit}`,
  ]);
  const widths = [0, 1, 2, 3].map((i) => Math.max(0, ...rows.map((row) => row[i]?.length ?? 0)));
  for (const row of rows)
    printLine(
      row
        .map((text, i) => text.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    );
}
