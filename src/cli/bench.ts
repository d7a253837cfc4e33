import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { benchMethods, benchPrefill, hopperCeilings, type BenchMethod } from '../gpu-worker/bench/measure.js';
import { cellHeading, describeCell, markdown, svg } from '../gpu-worker/bench/report.js';
import type { BackendName, Precision } from '../gpu-worker/engine/engine.js';
import { readModelShape } from '../plan/model-shape.js';
import type { Ceilings } from '../plan/work.js';
import { shutdownSignal } from '../platform/shutdown.js';

interface BenchFlags {
  model: string;
  methods: BenchMethod[];
  ranks: number[];
  threads: number[];
  tokens: number[];
  precision: Precision;
  backend?: BackendName;
  gpus?: number;
  ceilings?: Ceilings;
  out?: string;
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

const one = (text: string): number => {
  const [value = 0, ...more] = numbers(text);
  if (more.length > 0) throw new InvalidArgumentError(`'${text}' is more than one number`);
  return value;
};

function ceilings(text: string): Ceilings {
  const [linear, attention, ...more] = numbers(text);
  if (linear === undefined || attention === undefined || more.length > 0) {
    throw new InvalidArgumentError(`'${text}' is not two numbers, of products and of attention`);
  }
  return { linear: linear * 1e9, attention: attention * 1e9 };
}

/** `longhaul bench prefill`, and `bench cpu`: the same on the CPU, whatever else is there. */
export function benchCommand(): Command {
  const bench = new Command('bench').description('speed of this machine');
  const gpuFlags = (command: Command) =>
    command
      .addOption(
        new Option('--backend <name>', 'auto takes a GPU when it works')
          .choices(['auto', 'cpu', 'cuda'])
          .default('auto'),
      )
      .option(
        '--gpus <n>',
        'how many GPUs the ranks have; fewer than ranks: virtual ranks (default: one each)',
        one,
      );
  bench.addCommand(
    gpuFlags(
      prefill(
        'prefill',
        'seconds of a prefill by method, ranks and length: its phases, FLOPs and share of the model of the time',
      ),
    ),
  );
  bench.addCommand(prefill('cpu', 'bench prefill on the CPU'));
  return bench;
}

function prefill(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .option('--model <dir>', 'the model; its documents are random tokens', 'models/demo')
    .option('--methods <names>', benchMethods.join(', '), methods, ['full', 'apb'])
    .option('--ranks <n,...>', 'processes of this machine; one rank runs full alone', numbers, [1, 2, 4])
    .option('--threads <n,...>', 'threads of each rank', numbers, [1])
    .option('--tokens <n,...>', 'lengths of documents', numbers, [2048, 4096, 8192, 16384, 32768])
    .addOption(
      new Option('--precision <name>', "what the CPU's linear layers multiply")
        .choices(['float32', 'bf16'])
        .default('float32'),
    )
    .option(
      '--ceilings <linear,attention>',
      `GFLOP/s of one rank for the model of the time (default: measured before each cell on a CPU, ${hopperCeilings.linear / 1e9},${hopperCeilings.attention / 1e9} on a GPU)`,
      ceilings,
    )
    .option('--out <dir>', 'also writes prefill.md, prefill.svg and prefill.json')
    .option('--json', 'one JSON object per cell and line')
    .action(run);
}

async function run({ model, json, out, ...flags }: BenchFlags): Promise<void> {
  const { signal, dispose } = shutdownSignal();
  try {
    const shape = await readModelShape(model);
    if (out !== undefined) await mkdir(out, { recursive: true });
    if (!json) console.log(cellHeading);
    const results = await benchPrefill({
      ...flags,
      shape,
      processors: availableParallelism(),
      modelDir: model,
      signal,
      onStart: ({ method, ranks, threads, tokens }, index, total) =>
        process.stderr.write(
          `cell ${index + 1} of ${total}: ${method}, ranks ${ranks}, threads ${threads}, ${tokens} tokens\n`,
        ),
      onResult: (result) => console.log(json ? JSON.stringify(result) : describeCell(result)),
    });
    if (out === undefined) return;
    const processor = cpus()[0]?.model.trim() ?? 'an unnamed processor';
    const machine = `${processor}, ${availableParallelism()} processors, ${new Date().toISOString().slice(0, 10)}, model ${model}`;
    await writeFile(join(out, 'prefill.md'), markdown(results, machine));
    await writeFile(join(out, 'prefill.svg'), svg(results));
    await writeFile(join(out, 'prefill.json'), `${JSON.stringify(results, null, 2)}\n`);
  } finally {
    dispose();
  }
}
