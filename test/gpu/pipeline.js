/**
 * `longhaul demo` through the queue: every answer is the expected one, and every outcome says that it was made by the
 * named backend, over the named communicator, on so many ranks. Prints one JSON line last.
 *
 *   build/bundle/longhaul/runtime/node test/gpu/pipeline.js                        two GPUs, NCCL
 *   node test/gpu/pipeline.js --backend cpu --comm tcp                             without a GPU
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { commonOptions, longhaul } from './stack.js';

const { values } = parseArgs({ options: commonOptions });
const { app, backend, comm, ranks } = values;
const folder = mkdtempSync(join(tmpdir(), 'longhaul-pipeline-'));
let failed = true;
try {
  const begun = performance.now();
  const args = ['demo', '--ranks', ranks, '--backend', backend, '--comm', comm];
  const { code } = await longhaul(app, args, { cwd: folder, show: true });
  const seconds = (performance.now() - begun) / 1000;
  const read = (name) =>
    readFileSync(join(folder, '.longhaul/demo/results', name), 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  if (!existsSync(join(folder, '.longhaul/demo/results/_SUCCESS')))
    throw new Error(`longhaul demo ended with exit code ${code} and without results; its messages are above`);
  const outcomes = read('output.jsonl');
  const said = [
    ...new Set(outcomes.map(({ execution: e }) => `${e.backend} / ${e.comm} / ${e.ranks} ranks`)),
  ];
  const asNamed = outcomes.every(
    ({ execution: e }) =>
      e.backend.split(' ')[0] === backend &&
      e.comm === comm &&
      e.ranks === Number(ranks) &&
      e.blocks.length === e.ranks,
  );
  failed = code !== 0 || outcomes.length === 0 || !asNamed;
  if (!asNamed)
    console.error(`an outcome was not made on ${backend} over ${comm} by ${ranks} ranks: ${said.join('; ')}`);
  const sum = (of) =>
    Math.round(outcomes.reduce((total, { execution }) => total + execution[of], 0) * 1000) / 1000;
  const result = {
    test: 'pipeline',
    ok: !failed,
    answered: outcomes.length,
    answers_right: code === 0,
    outcomes_say: said,
    document_tokens: outcomes.reduce((total, { usage }) => total + usage.document_tokens, 0),
    prefill_seconds: sum('prefill_seconds'),
    decode_seconds: sum('decode_seconds'),
    seconds: Math.round(seconds * 10) / 10,
  };
  console.log(JSON.stringify(result));
} finally {
  if (failed) console.error(`what it wrote stays in ${folder}`);
  else rmSync(folder, { recursive: true, force: true });
}
process.exitCode = failed ? 1 : 0;
