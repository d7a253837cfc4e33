import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { runDemo } from '../local/demo/run.js';

/** `longhaul demo` */
export function demoCommand(): Command {
  return new Command('demo')
    .description('answer questions about long documents on this machine, end to end')
    .option('--ranks <n>', 'ranks of the cohort', '4')
    .addOption(
      new Option('--backend <name>', 'what computes').choices(['cpu', 'cuda', 'auto']).default('cpu'),
    )
    .addOption(
      new Option('--comm <name>', 'what the ranks exchange through')
        .choices(['tcp', 'nccl', 'auto'])
        .default('auto'),
    )
    .option('--json', 'print answers and files as JSON on stdout, everything else on stderr')
    .action(async (options: { ranks: string; backend: string; comm: string; json?: boolean }) => {
      const right = await runDemo({
        directory: resolve('.longhaul/demo'),
        ranks: Number(options.ranks),
        backend: options.backend,
        comm: options.comm,
        json: options.json,
      });
      if (!right) process.exitCode = 1;
    });
}
