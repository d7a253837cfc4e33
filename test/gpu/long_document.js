/**
 * A document of 128K tokens through the queue, on a random model of Llama-3.1-8B's shapes: once undisturbed, once with a
 * rank killed (SIGKILL) in the middle of the prefill. Both must give the same answers, one outcome each. Prints a JSON line
 * per run, and one of both.
 *
 *   build/bundle/longhaul/runtime/node test/gpu/long_document.js --model /dev/shm/llama    two GPUs, NCCL
 *   node test/gpu/long_document.js --tiny --backend cpu --comm tcp --tokens 6000           without a GPU
 *
 * --model is where the checkpoint is made (16.5 GB; a model that is there already is taken), --tokenizer a folder with
 * Llama 3's tokenizer.json and tokenizer_config.json (infra/setup/test-data.sh fetches it).
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { makeLlama } from './random_llama.js';
import { commonOptions, gpuMemory, memoryIsFree, root, Stack } from './stack.js';

const LEAVE_MS = 10_000;
const ANSWER_MS = 300_000;
/** Of the demo's texts with Llama 3's tokenizer. */
const CHARACTERS_PER_TOKEN = 4.251;

const { values } = parseArgs({
  options: {
    ...commonOptions,
    model: { type: 'string' },
    tokenizer: { type: 'string', default: join(root, '.longhaul/test-data/tokenizers/llama3_1-3.7.2') },
    tiny: { type: 'boolean', default: false },
    tokens: { type: 'string', default: '131072' },
    anchor: { type: 'string', default: '4096' },
    passing: { type: 'string', default: '2048' },
    victim: { type: 'string', default: '1' },
  },
});
const { app, backend, comm } = values;
const ranks = Number(values.ranks);
const victim = Number(values.victim);
const folder = mkdtempSync(join(tmpdir(), 'longhaul-long-document-'));
const marker = join(folder, 'reached');
const seconds = (ms) => Math.round(ms) / 1000;

function writeRequest(name) {
  const texts = ['moby-dick', 'state-of-the-union'].map((text) =>
    readFileSync(join(root, 'demo/texts', `${text}.txt`), 'utf8'),
  );
  const document = texts.join('\n').slice(0, Number(values.tokens) * CHARACTERS_PER_TOKEN);
  const questions = ['Who tells this story, and why did he go to sea?', 'What does the last speech promise?'];
  const file = join(folder, `${name}.jsonl`);
  writeFileSync(file, JSON.stringify({ custom_id: name, document, questions, max_tokens: 4 }) + '\n');
  return file;
}

/** Submits a batch of its own; its id. */
function submit(stack, name) {
  const sizes = ['--anchor', values.anchor, '--passing', values.passing, '--select', 'heads'];
  return stack.submit(writeRequest(name), '--method', 'apb', '--ranks', String(ranks), ...sizes);
}

function resultOf(run, { outcomes, counts }, begun) {
  if (outcomes.length !== 1 || counts.total !== 1 || counts.answered !== 1)
    throw new Error(`${run}: ${outcomes.length} outcomes, counts ${JSON.stringify(counts)}`);
  const { answers, execution, usage } = outcomes[0];
  if (
    execution.backend.split(' ')[0] !== backend ||
    execution.comm !== comm ||
    execution.blocks.length !== ranks
  )
    throw new Error(`${run}: made by ${JSON.stringify(execution)}`);
  return {
    test: 'long_document',
    run,
    document_tokens: usage.document_tokens,
    prefill_seconds: execution.prefill_seconds,
    decode_seconds: execution.decode_seconds,
    end_to_end_seconds: seconds(performance.now() - begun),
    epoch: execution.epoch,
    answers: answers.map(({ text }) => text),
    execution,
  };
}

const idle = backend === 'cuda' ? gpuMemory() : null;
const model = values.model ?? join(folder, 'model');
const making = performance.now();
makeLlama(model, {
  shapes: values.tiny ? 'tiny' : 'llama-3.1-8b',
  tokenizer: values.tokenizer,
  report: (file) => console.error(`made ${file}, ${seconds(performance.now() - making)} s`),
});
let stack;
let same = false;
try {
  stack = await Stack.open(app, folder, {
    LONGHAUL_BACKEND: backend,
    LONGHAUL_COMM: comm,
    LONGHAUL_MODEL_DIR: model,
    LONGHAUL_RANKS: String(ranks),
  });
  writeFileSync(marker, '');
  const starting = performance.now();
  const armed = { LONGHAUL_TEST_POINT: `prefill,SIGKILL,${marker}` };
  const cohort = stack.cohort(ranks, (rank) => (rank === victim ? armed : {}));
  await cohort.connected(ANSWER_MS);
  console.log(
    JSON.stringify({ test: 'long_document', cohort_ready_seconds: seconds(performance.now() - starting) }),
  );

  let begun = performance.now();
  const undisturbed = resultOf(
    'undisturbed',
    await Promise.race([stack.results(await submit(stack, 'undisturbed'), ANSWER_MS), cohort.untilLost()]),
    begun,
  );
  console.log(JSON.stringify(undisturbed));

  rmSync(marker);
  begun = performance.now();
  const batch = await submit(stack, 'killed');
  const death = await Promise.race([cohort.members[victim].exit, sleep(ANSWER_MS, null, { ref: false })]);
  if (death?.signal !== 'SIGKILL' || !existsSync(marker))
    throw new Error(`rank ${victim} did not die in its prefill but ended with ${JSON.stringify(death)}`);
  const others = cohort.members.filter((_, rank) => rank !== victim);
  const ends = await Promise.race([
    Promise.all(others.map(({ exit }) => exit)),
    sleep(LEAVE_MS, null, { ref: false }),
  ]);
  if (ends === null) throw new Error(`a rank was still there ${LEAVE_MS / 1000} s after the other's death`);
  const out = Math.max(...ends.map(({ at }) => at)) - death.at;
  let memory = 'NOT RUN: no nvidia-smi, or the backend is not cuda';
  if (idle !== null) {
    if (!(await memoryIsFree(idle, LEAVE_MS)))
      throw new Error(`GPU memory is not free: ${gpuMemory()} MiB, idle ${idle}`);
    memory = 'free';
  }
  const restarted = performance.now();
  const next = stack.cohort(ranks);
  await next.connected(ANSWER_MS);
  const ready = performance.now();
  const killed = resultOf(
    'killed',
    await Promise.race([stack.results(batch, ANSWER_MS), next.untilLost()]),
    begun,
  );
  const details = {
    out_seconds: seconds(out),
    memory,
    new_generation_seconds: seconds(ready - restarted),
    recovery_seconds: seconds(performance.now() - death.at),
  };
  console.log(JSON.stringify({ ...killed, ...details }));
  same = JSON.stringify(killed.answers) === JSON.stringify(undisturbed.answers) && killed.epoch > 1;
  const times = {
    end_to_end_seconds: undisturbed.end_to_end_seconds,
    with_a_death_seconds: killed.end_to_end_seconds,
  };
  console.log(JSON.stringify({ test: 'long_document', ok: same, answers_same: same, ...times }));
} finally {
  await stack?.close();
  if (same) rmSync(folder, { recursive: true, force: true });
  else console.error(`logs stay in ${folder}`);
}
process.exitCode = same ? 0 : 1;
