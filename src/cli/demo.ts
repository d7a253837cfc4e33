import { resolve } from 'node:path';
import { Command } from 'commander';
import { runDemo } from '../local/demo/run.js';

/** `longhaul demo` */
export function demoCommand(): Command {
  return new Command('demo')
    .description('answer questions about long documents on this machine, end to end')
    .option('--ranks <n>', 'ranks of the cohort', '4')
    .action(async (options: { ranks: string }) => {
      const right = await runDemo({
        directory: resolve('.longhaul/demo'),
        ranks: Number(options.ranks),
      });
      if (!right) process.exitCode = 1;
    });
}
