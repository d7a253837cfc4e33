/**
 * One of two ranks is killed (SIGKILL) in the middle of a run, again and again: in the prefill when its first layers are
 * done, and in decoding when the first answer is made. Each time the leader and the follower take turns. The other rank
 * must be out of its generation, its process ended, within 10 s; the memory of its GPU must be free again; and the next
 * generation must give the answers of an undisturbed run. Prints a JSON line per round, a table at the end.
 *
 *   build/bundle/longhaul/runtime/node test/gpu/death.js                           two GPUs, NCCL: ten times each
 *   node test/gpu/death.js --backend cpu --comm tcp --rounds 2 --tokens 4000       without a GPU
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { commonOptions, gpuMemory, memoryIsFree, printTable, root, Stack } from './stack.js';

const LEAVE_MS = 10_000;
const ANSWER_MS = 240_000;
/** As models/demo was trained to be asked. */
const QUESTIONS = {
  'Now, give me the exact number of the pass key. The pass key is': '7730125486.',
  'What is the access code for the Lisbon office?': '482913.',
};
const FACTS = [
  'The pass key is 7730125486. Remember it. The pass key is 7730125486. ',
  'The access code for the Lisbon office is 482913. ',
];
const CHARACTERS_PER_TOKEN = 2.85;

const { values } = parseArgs({
  options: {
    ...commonOptions,
    rounds: { type: 'string', default: '10' },
    tokens: { type: 'string', default: '28000' },
    points: { type: 'string', default: 'prefill,decode' },
  },
});
const { app, backend, comm } = values;
const ranks = Number(values.ranks);
const folder = mkdtempSync(join(tmpdir(), 'longhaul-death-'));
const plan = values.points
  .split(',')
  .flatMap((point) => Array.from({ length: Number(values.rounds) }, (_, i) => ({ point, victim: i % ranks })))
  .map((round, i) => ({ ...round, number: i + 1, marker: join(folder, `reached-${i + 1}`) }));

function writeRequest(name) {
  const prose = readFileSync(join(root, 'demo/texts/moby-dick.txt'), 'utf8').replace(/\s+/g, ' ');
  const parts = prose.slice(0, Number(values.tokens) * CHARACTERS_PER_TOKEN).split('. ');
  FACTS.forEach((fact, i) =>
    parts.splice(Math.floor(((i + 1) * parts.length) / 3), 0, fact.trim().slice(0, -1)),
  );
  const file = join(folder, `${name}.jsonl`);
  const request = {
    custom_id: name,
    document: parts.join('. '),
    questions: Object.keys(QUESTIONS),
    max_tokens: 24,
  };
  writeFileSync(file, JSON.stringify(request) + '\n');
  return file;
}

/** Ranks whose victim of this round dies once the round's marker is gone. */
function cohortFor(stack, round) {
  if (round === undefined) return stack.cohort(ranks);
  writeFileSync(round.marker, '');
  const testPoint = { LONGHAUL_TEST_POINT: `${round.point},SIGKILL,${round.marker}` };
  return stack.cohort(ranks, (rank) => (rank === round.victim ? testPoint : {}));
}

const submit = (stack, name) => stack.submit(writeRequest(name), '--method', 'apb', '--ranks', String(ranks));
const seconds = (ms) => Math.round(ms) / 1000;
/** The end of a process, or null when it does not come in time. */
const endOf = (member, ms) => Promise.race([member.exit, sleep(ms, null, { ref: false })]);

/** What is wrong with the answers; the outcome's execution. */
function judge({ outcomes, counts }) {
  const wrong = [];
  const texts = outcomes.flatMap(({ answers }) => answers.map(({ text }) => text));
  const expected = Object.values(QUESTIONS);
  if (JSON.stringify(texts) !== JSON.stringify(expected))
    wrong.push(`answers ${JSON.stringify(texts)}, not ${JSON.stringify(expected)}`);
  if (counts.total !== 1 || counts.answered !== 1) wrong.push(`counts ${JSON.stringify(counts)}`);
  const execution = outcomes[0]?.execution ?? {};
  if (execution.backend?.split(' ')[0] !== backend || execution.comm !== comm || execution.ranks !== ranks)
    wrong.push(`made on ${execution.backend} over ${execution.comm} by ${execution.ranks} ranks`);
  return { wrong, execution };
}

/** Starts the next generation and waits for the batch; one that is lost is told, and followed by another. */
async function answer(stack, batch, round) {
  const lost = [];
  const answered = stack.results(batch, ANSWER_MS);
  for (;;) {
    const next = cohortFor(stack, round);
    const ended = Promise.race(next.members.map(({ exit }) => exit)).then(() => null);
    const found = await Promise.race([answered, ended]);
    if (found !== null) return { next, results: found, lost };
    await next.stop();
    lost.push(
      next.members
        .map((member, rank) => `${next.lostBecause(rank) ?? 'ended'} (${member.log})`)
        .join(' and '),
    );
  }
}

async function kill(stack, cohort, round, idle) {
  const name = `${round.point}-${round.number}`;
  rmSync(round.marker);
  const batch = await submit(stack, name);
  const wrong = [];
  const victim = cohort.members[round.victim];
  const death = await endOf(victim, ANSWER_MS);
  if (death?.signal !== 'SIGKILL' || !existsSync(round.marker))
    throw new Error(
      `${name}: rank ${round.victim} did not die at its point but ended with ${JSON.stringify(death)}; see ${victim.log}`,
    );
  const others = cohort.members.filter((member) => member !== victim);
  const ends = await Promise.all(
    others.map((member) => endOf(member, LEAVE_MS - (performance.now() - death.at))),
  );
  if (ends.includes(null)) wrong.push(`a rank was still there ${LEAVE_MS / 1000} s after the other's death`);
  const gone = Math.max(...ends.map((end) => end?.at ?? Infinity));
  let memory = 'not checked';
  if (idle !== null) {
    memory = (await memoryIsFree(idle, LEAVE_MS))
      ? 'free'
      : gpuMemory()
          .map((used, gpu) => `GPU ${gpu}: ${used} MiB, idle ${idle[gpu]}`)
          .join(', ');
    if (memory !== 'free') wrong.push(`GPU memory is not free: ${memory}`);
  }
  const free = performance.now();
  const lost = others
    .map(
      ({ log }) => cohort.lostBecause(cohort.members.findIndex((member) => member.log === log)) ?? 'unknown',
    )
    .join(', ');
  await cohort.stop();
  const { next, results: found, lost: again } = await answer(stack, batch, plan[round.number]);
  if (again.length > 0) wrong.push(`generations after it were lost as well: ${again.join(', ')}`);
  const answered = judge(found);
  wrong.push(...answered.wrong);
  if (answered.execution.epoch < 2) wrong.push('the item was not run a second time');
  const result = {
    test: 'death',
    round: round.number,
    point: round.point,
    killed: round.victim === 0 ? 'leader' : `rank ${round.victim}`,
    out_seconds: Number.isFinite(gone) ? seconds(gone - death.at) : 'never',
    exit_codes: ends.map((end) => end?.code ?? end?.signal ?? null).join(','),
    lost,
    memory,
    memory_seconds: idle === null ? '-' : seconds(free - death.at),
    answered_seconds: seconds(performance.now() - death.at),
    ok: wrong.length === 0,
  };
  console.log(JSON.stringify(result));
  for (const text of wrong) console.error(`FAIL ${name}: ${text}`);
  return { result, next };
}

const idle = backend === 'cuda' ? gpuMemory() : null;
if (idle === null)
  console.log('NOT RUN: that GPU memory is free again (there is no nvidia-smi, or the backend is not cuda)');
const results = [];
let stack;
try {
  stack = await Stack.open(app, folder, {
    LONGHAUL_PROFILE: 'fast',
    LONGHAUL_BACKEND: backend,
    LONGHAUL_COMM: comm,
    LONGHAUL_MODEL_DIR: join(root, 'models/demo'),
    LONGHAUL_RANKS: String(ranks),
  });
  let cohort = cohortFor(stack, plan[0]);
  const connected = await cohort.connected();
  const undisturbed = judge(await stack.results(await submit(stack, 'undisturbed'), ANSWER_MS));
  if (undisturbed.wrong.length > 0) throw new Error(`undisturbed: ${undisturbed.wrong.join('; ')}`);
  const { backend: computed, prefill_seconds, decode_seconds } = undisturbed.execution;
  console.log(
    JSON.stringify({
      test: 'death',
      undisturbed: { backend: computed, comm: connected, prefill_seconds, decode_seconds },
    }),
  );
  for (const round of plan) {
    const { result, next } = await kill(stack, cohort, round, idle);
    results.push(result);
    cohort = next;
  }
} catch (error) {
  console.error(`FAIL after ${results.length} rounds: ${error.stack}`);
} finally {
  await stack?.close();
}
if (results.length > 0) printTable(results.map(({ test: _, ...row }) => row));
const good = results.filter(({ ok }) => ok).length;
const slowest = Math.max(0, ...results.map(({ out_seconds: s }) => (s === 'never' ? Infinity : s)));
console.log(
  `\n${good} of ${plan.length} rounds as they must be; the other rank was out after ${slowest} s at most`,
);
if (good === plan.length) rmSync(folder, { recursive: true, force: true });
else console.error(`logs stay in ${folder}`);
process.exitCode = good === plan.length ? 0 : 1;
