import { Presets, SingleBar } from 'cli-progress';
import { join } from 'node:path';
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { confirmAnswers, describeCell, type CellProgress } from '../gpu-worker/check/confirm.js';
import { describeResult, runCases, type CaseResult } from '../gpu-worker/check/run.js';
import { capabilities, type BackendName, type RingLayout } from '../gpu-worker/engine/engine.js';
import { packageRoot } from '../local/layout.js';
import { addonPath } from '../local/native-engine.js';
import { ConfigError } from '../platform/errors.js';
import { shutdownSignal } from '../platform/shutdown.js';
import { buildWithProgress } from './build-engine.js';

interface CheckFlags {
  backend: BackendName;
  threads: number;
  method?: 'ring' | 'ulysses';
  ringLayout?: RingLayout;
  json?: boolean;
}

interface ConfirmFlags {
  backend: BackendName;
  model: string;
  tasks?: string[];
  lengths?: number[];
  methods?: string[];
  threads?: number;
  json?: boolean;
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('give a whole number from 1');
  return value;
}

const names = (text: string) => text.split(',');

/** A bar of the cell at work on a terminal, a line every ten seconds elsewhere; on stderr. */
function cellProgress(): { update: (progress: CellProgress) => void; stop: () => void } {
  const bar = new SingleBar(
    {
      format: '{task} {tokens} {method}: {bar} {value}/{total} documents, {duration_formatted}',
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
      gracefulExit: false,
      noTTYOutput: true,
      notTTYSchedule: 10_000,
    },
    Presets.shades_classic,
  );
  return {
    update: ({ done, total, ...cell }) => (done === 0 ? bar.start(total, 0, cell) : bar.update(done, cell)),
    stop: () => bar.stop(),
  };
}

/** JSON has no infinity, which is the error of a value that is missing. */
function toJson(result: CaseResult): string {
  return JSON.stringify(result, (_, value: unknown) =>
    typeof value === 'number' && !Number.isFinite(value) ? String(value) : value,
  );
}

/** `longhaul engine info`, `build`, `check` and `confirm` */
export function engineCommand(): Command {
  const engine = new Command('engine').description('the native engine on this machine');

  engine
    .command('info')
    .description('what this build and this machine can do')
    .option('--json', 'print JSON: what it does without this, too')
    .action(() => console.log(JSON.stringify(capabilities(), undefined, 2)));

  engine
    .command('build')
    .description('compile what is missing or out of date of it; `local up` does so by itself')
    .option('--json', 'print the path of the addon as JSON')
    .action(async ({ json }: { json?: boolean }) => {
      const { signal, dispose } = shutdownSignal();
      try {
        await buildWithProgress(signal);
        console.log(json === true ? JSON.stringify({ addon: addonPath }) : `built ${addonPath}`);
      } finally {
        dispose();
      }
    });

  engine
    .command('check')
    .description('run golden cases, one process per rank, and print each error beside its tolerance')
    .addArgument(
      new Argument('[dirs...]', 'case folders, or folders of them').default(
        [join(packageRoot, 'test/cases')],
        "longhaul's own",
      ),
    )
    .addOption(
      new Option('--backend <name>', 'where to run').choices(['cpu', 'cuda', 'auto']).default('auto'),
    )
    .option('--threads <n>', 'threads of each rank', positive, 1)
    .addOption(
      new Option('--method <name>', 'run the cases of method full by another exact method').choices([
        'ring',
        'ulysses',
      ]),
    )
    .addOption(
      new Option('--ring-layout <name>', 'only with --method ring').choices(['contiguous', 'zigzag']),
    )
    .option('--json', 'one JSON object per case and line')
    .action(async (dirs: string[], { backend, threads, method, ringLayout, json }: CheckFlags) => {
      if (ringLayout !== undefined && method !== 'ring') {
        throw new ConfigError(`--ring-layout ${ringLayout} belongs to --method ring; give both or neither`);
      }
      const { signal, dispose } = shutdownSignal();
      try {
        const results = await runCases({
          dirs,
          way: method === undefined ? undefined : { method, ringLayout },
          backend,
          threads,
          signal,
          onResult: (result) => console.log(json ? toJson(result) : describeResult(result)),
        });
        const failed = results.filter(({ ok }) => !ok).length;
        if (!json) console.log(`${results.length - failed} of ${results.length} cases agree`);
        if (failed > 0) process.exitCode = 1;
      } finally {
        dispose();
      }
    });

  engine
    .command('confirm')
    .description("answer recorded documents on the CPU engine and compare its tokens with PyTorch's")
    .argument(
      '[file]',
      'documents and answers, as training/confirm.py writes them',
      'training/confirm/demo.jsonl.gz',
    )
    .option('--model <dir>', 'the model that gave the answers', 'models/demo')
    .addOption(
      new Option('--backend <name>', 'where to run; CUDA computes in bfloat16')
        .choices(['cpu', 'cuda', 'auto'])
        .default('cpu'),
    )
    .option('--tasks <names>', 'only these tasks, separated by commas', names)
    .option('--lengths <tokens>', 'only documents of these lengths', (text) => names(text).map(positive))
    .option('--methods <names>', 'only these methods: full, apb', names)
    .option('--threads <n>', 'threads of all ranks together; all of the machine unless given', positive)
    .option('--json', 'one JSON object per cell and line')
    .addHelpText('after', '\nExit codes: 0 same answers or near-ties, 1 an answer differs or an error')
    .action(async (file: string, { json, model, ...flags }: ConfirmFlags) => {
      const { signal, dispose } = shutdownSignal();
      const progress = cellProgress();
      try {
        const cells = await confirmAnswers({
          ...flags,
          file,
          modelDir: model,
          signal,
          onProgress: progress.update,
          onCell: (cell) => {
            progress.stop();
            console.log(json ? JSON.stringify(cell) : describeCell(cell));
          },
        });
        if (cells.some(({ ok }) => !ok)) process.exitCode = 1;
      } finally {
        progress.stop();
        dispose();
      }
    });
  return engine;
}
