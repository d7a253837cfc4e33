/** One batch per method over the same requests, and the report of what came back. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { downloadResults } from '../batch/results.js';
import { plot } from '../eval/plot.js';
import { markdown, type Scored } from '../eval/report.js';
import { scoreOutput, writeRequests, type AskedRequest } from '../eval/requests.js';
import type { Variant } from '../eval/variants.js';
import { submit } from '../producer/submit.js';
import { sourcePolicy } from '../text/source-policy.js';
import { printJson, printLine, type CommandContext } from './context.js';
import { follow, watchBatch } from './progress.js';

export interface RunFlags {
  methods: Variant[];
  out: string;
  json?: boolean;
}

/**
 * A batch is named by its content: run again, a batch that has ended is only downloaded, and one that waits is
 * waited for. All are submitted before the first is waited for, so that a method that is refused ends the
 * command before any has run long.
 * @param about kept in report.json, to say what was asked.
 */
export async function runVariants(
  { methods, out, json = false }: RunFlags,
  asked: Iterable<AskedRequest> | AsyncIterable<AskedRequest>,
  about: object,
  { config, signal, ...deps }: CommandContext,
): Promise<void> {
  const { file, requests } = await writeRequests(out, asked);
  const batches: { name: string; id: string }[] = [];
  for (const { name, ...options } of methods) {
    const { id, created } = await submit(deps, {
      file,
      policy: sourcePolicy(config),
      modelDir: config.modelDir,
      headsFile: config.headsFile,
      options: { ...options, ranks: config.ranks },
      signal,
    });
    process.stderr.write(`${name}: batch ${id}${created ? '' : ', submitted before'}\n`);
    batches.push({ name, id });
  }
  const scored: Scored[] = [];
  for (const { name, id } of batches) {
    process.stderr.write(`${name}: waiting for ${id}\n`);
    await watchBatch(follow(deps, id, signal), signal);
    const folder = join(out, name.replace(/[^a-z0-9]+/g, '-'));
    await mkdir(folder, { recursive: true });
    const { output } = await downloadResults(deps, id, folder, signal);
    const results = await scoreOutput(output, requests);
    scored.push({ variant: name, batch: id, results });
    if (results.size < requests.length) process.exitCode = 2;
  }
  const text = markdown(requests, scored);
  await writeFile(join(out, 'report.md'), text);
  await writeFile(join(out, 'report.svg'), plot(requests, scored));
  const variants = scored.map(({ results, ...each }) => ({ ...each, results: Object.fromEntries(results) }));
  const report = { ...about, ranks: config.ranks, methods: variants };
  await writeFile(join(out, 'report.json'), JSON.stringify(report, undefined, 1) + '\n');
  if (json) printJson(report);
  else printLine(text);
}
