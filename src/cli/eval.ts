import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command, Option, InvalidArgumentError } from 'commander';
import { downloadResults } from '../batch/results.js';
import { getStatus } from '../batch/status.js';
import { markdown, type Scored } from '../eval/report.js';
import { scoreOutput, writeRequests } from '../eval/requests.js';
import { readSources } from '../eval/ruler/sources.js';
import { TASK_NAMES, type TaskName } from '../eval/ruler/tasks.js';
import { parseVariant, type Variant } from '../eval/variants.js';
import { packageRoot } from '../local/layout.js';
import { submit } from '../producer/submit.js';
import { sourcePolicy } from '../text/source-policy.js';
import { loadTokenizer } from '../text/tokenizer.js';
import { printJson, printLine, withBatches, type CommandContext } from './context.js';
import { wholeNumber } from './numbers.js';
import { watchBatch } from './progress.js';

interface Flags {
  tasks: TaskName[];
  tokens: number[];
  documents: number;
  seed: number;
  methods: Variant[];
  essay: string;
  squad?: string;
  hotpot?: string;
  out: string;
  json?: boolean;
}

const tasks = (text: string): TaskName[] =>
  text.split(',').map((name) => {
    const known = TASK_NAMES.find((task) => task === name);
    if (!known) throw new InvalidArgumentError(`'${name}' is none of ${TASK_NAMES.join(', ')}`);
    return known;
  });

/** `longhaul eval ruler` */
export function evalCommand(): Command {
  const evaluation = new Command('eval').description('is the answer still right, method against method');
  evaluation
    .command('ruler')
    .description("RULER's tasks as one batch per method, over the same documents; run again, it goes on")
    .requiredOption('--out <dir>', 'requests, results and report.md, report.json')
    .option('--tasks <names>', TASK_NAMES.join(', '), tasks, TASK_NAMES)
    .option(
      '--tokens <n,...>',
      "lengths of documents by the model's tokenizer",
      (text: string) => text.split(',').map(wholeNumber),
      [4096],
    )
    .option('--documents <n>', 'of each task and length', wholeNumber, 8)
    .option('--seed <n>', 'other documents', wholeNumber, 1)
    .option(
      '--methods <names>',
      'like full,apb,apb:passing=0,apb:select=random,star:anchor=256',
      (text: string) => text.split(',').map(parseVariant),
      ['full', 'apb'].map(parseVariant),
    )
    .option('--ranks <n>', "ranks that share a document (default: the configuration's)", wholeNumber)
    .option('--squad <file>', "questions of qa_1 in SQuAD's layout (default: a small set of our own)")
    .option('--hotpot <file>', "questions of qa_2 in HotpotQA's layout (default: likewise)")
    .addOption(
      new Option('--essay <file>', 'prose for filler').default(
        join(packageRoot, 'demo/texts/moby-dick.txt'),
        'Moby-Dick',
      ),
    )
    .option('--json', 'print report.json instead of the table')
    .action(async (flags: Flags, command: Command) => {
      await withBatches(command, (context) => runRuler(flags, context));
    });
  return evaluation;
}

async function runRuler(flags: Flags, { config, signal, ...deps }: CommandContext): Promise<void> {
  const { methods, documents, seed, out } = flags;
  const sources = await readSources(flags.essay, flags);
  const tokenizer = await loadTokenizer(config.modelDir);
  const plan = { tasks: flags.tasks, lengths: flags.tokens, documents, seed };
  const count = async (text: string) => (await tokenizer.encodeDocument(text, signal)).length;
  const { file, requests } = await writeRequests(out, plan, sources, count).finally(() => tokenizer.close());
  const scored: Scored[] = [];
  for (const { name, ...options } of methods) {
    const { id } = await submit(deps, {
      file,
      policy: sourcePolicy(config),
      modelDir: config.modelDir,
      headsFile: config.headsFile,
      options: { ...options, ranks: config.ranks },
      signal,
    });
    process.stderr.write(`${name}: batch ${id}\n`);
    await watchBatch(() => getStatus(deps, id, signal), signal);
    const folder = join(out, name.replace(/[^a-z0-9]+/g, '-'));
    await mkdir(folder, { recursive: true });
    const { output } = await downloadResults(deps, id, folder, signal);
    const results = await scoreOutput(output, requests);
    scored.push({ variant: name, batch: id, results });
    if (results.size < requests.length) process.exitCode = 2;
  }
  const text = markdown(requests, scored);
  const json = scored.map(({ results, ...each }) => ({ ...each, results: Object.fromEntries(results) }));
  await writeFile(join(out, 'report.md'), text);
  const report = { plan, ranks: config.ranks, methods: json };
  await writeFile(join(out, 'report.json'), JSON.stringify(report, undefined, 1) + '\n');
  if (flags.json === true) printJson(report);
  else printLine(text);
}
