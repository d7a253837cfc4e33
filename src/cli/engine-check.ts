import { Command, InvalidArgumentError, Option } from 'commander';
import { describeResult, runCases, type CaseResult } from '../gpu-worker/check/run.js';
import { capabilities, type BackendName } from '../gpu-worker/engine/engine.js';
import { shutdownSignal } from '../platform/shutdown.js';

interface CheckFlags {
  backend: BackendName;
  threads: number;
  json?: boolean;
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('give a whole number from 1');
  return value;
}

/** JSON has no infinity, which is the error of a value that is missing. */
function toJson(result: CaseResult): string {
  return JSON.stringify(result, (_, value: unknown) =>
    typeof value === 'number' && !Number.isFinite(value) ? String(value) : value,
  );
}

/** `longhaul engine check` and `longhaul engine info` */
export function engineCommand(): Command {
  const engine = new Command('engine').description('the native engine on this machine');

  engine
    .command('info')
    .description('what this build and this machine can do')
    .action(() => console.log(JSON.stringify(capabilities(), undefined, 2)));

  engine
    .command('check')
    .description('run golden cases, one process per rank, and print each error beside its tolerance')
    .argument('[dirs...]', 'case folders, or folders of them', ['test/cases'])
    .addOption(
      new Option('--backend <name>', 'where to run').choices(['cpu', 'cuda', 'auto']).default('auto'),
    )
    .option('--threads <n>', 'threads of each rank', positive, 1)
    .option('--json', 'one JSON object per case and line')
    .action(async (dirs: string[], { backend, threads, json }: CheckFlags) => {
      const { signal, dispose } = shutdownSignal();
      try {
        const results = await runCases({
          dirs,
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
  return engine;
}
