import { Command, InvalidArgumentError, Option } from 'commander';
import {
  benchCpu,
  benchMethods,
  cellHeading,
  describeCell,
  type BenchMethod,
} from '../gpu-worker/bench/measure.js';
import type { Precision } from '../gpu-worker/engine/engine.js';
import { shutdownSignal } from '../platform/shutdown.js';

interface BenchFlags {
  model: string;
  methods: BenchMethod[];
  ranks: number[];
  threads: number[];
  tokens: number[];
  precision: Precision;
  json?: boolean;
}

const numbers = (text: string): number[] =>
  text.split(',').map((part) => {
    const value = Number(part);
    if (!Number.isInteger(value) || value < 1) {
      throw new InvalidArgumentError(`'${part}' is not a whole number from 1; separate them by commas`);
    }
    return value;
  });

const methods = (text: string): BenchMethod[] =>
  text.split(',').map((name) => {
    const known = benchMethods.find((method) => method === name);
    if (!known) throw new InvalidArgumentError(`'${name}' is none of ${benchMethods.join(', ')}`);
    return known;
  });

/** `longhaul bench cpu` */
export function benchCommand(): Command {
  const bench = new Command('bench').description('speed of this machine');
  bench
    .command('cpu')
    .description('tokens per second of a prefill on the CPU, by method, ranks and length, and its phases')
    .option('--model <dir>', 'the model; its documents are random tokens', 'models/demo')
    .option('--methods <names>', benchMethods.join(', '), methods, ['full', 'apb'])
    .option('--ranks <n,...>', 'processes over tcp; one rank runs full alone', numbers, [1, 2, 4])
    .option('--threads <n,...>', 'threads of each rank', numbers, [1])
    .option('--tokens <n,...>', 'lengths of documents', numbers, [2048, 4096, 8192, 16384, 32768])
    .addOption(
      new Option('--precision <name>', 'what linear layers multiply')
        .choices(['float32', 'bf16'])
        .default('float32'),
    )
    .option('--json', 'one JSON object per cell and line')
    .action(async ({ model, json, ...flags }: BenchFlags) => {
      const { signal, dispose } = shutdownSignal();
      try {
        if (!json) console.log(cellHeading);
        await benchCpu({
          ...flags,
          modelDir: model,
          signal,
          onStart: ({ method, ranks, threads, tokens }, index, total) =>
            process.stderr.write(
              `cell ${index + 1} of ${total}: ${method}, ranks ${ranks}, threads ${threads}, ${tokens} tokens\n`,
            ),
          onResult: (result) => console.log(json ? JSON.stringify(result) : describeCell(result)),
        });
      } finally {
        dispose();
      }
    });
  return bench;
}
