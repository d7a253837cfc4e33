/**
 * The planner's choice beside every fixed one: a calibration as `longhaul plan --calibrate` makes it, then prefills of
 * each length in every way that a person could name, in turns; the planner's choice is one of them. The number of a
 * way is the planner's own: seconds of the slowest rank, the least of its turns; on a CPU they are processor seconds, so
 * that a machine which does other work as well gives numbers too. One thread per rank; two GPUs for --backend cuda.
 *
 *   node bench/plan.js [--tokens 1024,2048,4096,8192,16384] [--runs 5] [--model models/demo] [--backend cpu]
 *     [--lines build/plan.jsonl] [--out docs/benchmarks/plan.md]
 *
 * JSON lines: the calibration; then of each length and way its seconds, their median, and the least of the clock. With --lines
 * they are kept in that file, and what is there already, of an earlier run, is not measured again. Needs `make build`.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg } from 'node:os';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { planFacts } from '../dist/cli/calibration.js';
import { calibrate, leastRates } from '../dist/gpu-worker/calibrate/calibrate.js';
import { ConfirmRanks } from '../dist/gpu-worker/check/confirm-ranks.js';
import { planBlocks } from '../dist/plan/blocks.js';
import { choosePlan, describeWay, POLICIES } from '../dist/plan/choose.js';
import { predictSeconds } from '../dist/plan/cost.js';
import { readModelShape } from '../dist/plan/model-shape.js';
import { defaultSizes } from '../dist/plan/sizes.js';
import { readModelLimits } from '../dist/text/model-limits.js';
import { readModelPrompt } from '../dist/text/model-prompt.js';

const query = Uint32Array.from({ length: 16 }, (_, i) => i + 5);
const { values } = parseArgs({
  options: {
    tokens: { type: 'string', default: '1024,2048,4096,8192,16384' },
    runs: { type: 'string', default: '5' },
    model: { type: 'string', default: 'models/demo' },
    backend: { type: 'string', default: 'cpu' },
    lines: { type: 'string' },
    out: { type: 'string' },
  },
});
const lengths = values.tokens.split(',').map(Number);
const { model: modelDir, backend } = values;
const shape = await readModelShape(modelDir);
const { defaults: fractions } = await readModelPrompt(modelDir);
const { maxPositions } = await readModelLimits(modelDir);

const kept =
  values.lines !== undefined && existsSync(values.lines)
    ? readFileSync(values.lines, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line))
    : [];
const { calibration, seconds: calibrationSeconds } =
  kept.find((line) => line.calibration !== undefined) ?? (await calibrateNow());
const byClock = calibration.seconds_by === 'clock';
const facts = await planFacts({ modelDir }, { calibration });
const missing = lengths.filter((tokens) => !kept.some((line) => line.tokens === tokens));
const measured = [...kept, ...(missing.length > 0 ? await measureAll(missing) : [])];
const results = lengths.map((tokens) => judge(tokens, measured));
for (const { ratios } of results) for (const ratio of ratios) console.log(JSON.stringify(ratio));
if (values.out !== undefined) await writeFile(values.out, report());

function keep(line) {
  console.log(JSON.stringify(line));
  if (values.lines !== undefined) appendFileSync(values.lines, `${JSON.stringify(line)}\n`);
}

async function calibrateNow() {
  const started = performance.now();
  const calibration = await calibrate({
    modelDir,
    shape,
    fractions,
    longest: maxPositions,
    processors: availableParallelism(),
    backend,
    threads: 1,
    precision: 'float32',
  });
  const line = { calibration, seconds: (performance.now() - started) / 1000 };
  keep(line);
  return line;
}

/** Every way that can be named at submit, of one rank or two. */
function fixedWays(tokens) {
  const plain = { ranks: 2, anchor: null, passing: 0, ring_layout: null, blocks: 'even' };
  const cut = (way) => [way, { ...way, blocks: 'balanced' }];
  const apb = (share) => ({
    ...plain,
    method: 'apb',
    ...defaultSizes(
      tokens / 2,
      {
        anchor_per_block: share * fractions.anchor_per_block,
        passing_per_block: share * fractions.passing_per_block,
      },
      query.length,
    ),
  });
  const exact = [
    { ...plain, method: 'full', ranks: 1 },
    ...cut({ ...plain, method: 'full' }),
    { ...plain, method: 'ring', ring_layout: 'zigzag' },
    { ...plain, method: 'ring', ring_layout: 'contiguous' },
    { ...plain, method: 'ulysses' },
  ].map((way) => ({ way, policies: POLICIES }));
  const star = { way: { ...plain, method: 'star' }, policies: ['balanced', 'fast'] };
  const others = { balanced: cut(apb(1)), fast: cut(apb(0.5)) };
  return [
    ...exact,
    star,
    ...others.balanced.map((way) => ({ way, policies: ['balanced', 'fast'] })),
    ...others.fast.map((way) => ({ way, policies: ['fast'] })),
  ];
}

async function measureAll(missing) {
  const start = (ranks) => ConfirmRanks.start({ ranks, modelDir, threads: 1, backend, timeoutMs: 1_800_000 });
  const cohorts = { 1: await start(1), 2: await start(2) };
  const rows = [];
  try {
    const rates = await leastRates(cohorts[2]);
    for (const tokens of missing) rows.push(...(await measure(cohorts, tokens, rates)));
  } finally {
    await Promise.all(Object.values(cohorts).map((cohort) => cohort.dispose()));
  }
  return rows;
}

async function measure(cohorts, tokens, rates) {
  const document = Uint32Array.from({ length: tokens }, (_, i) => (i * 7919) % cohorts[1].vocabulary);
  const entries = fixedWays(tokens).map(({ way }) => ({ way, turns: [] }));
  for (let run = 0; run < Number(values.runs); run++) {
    for (const { way, turns } of entries) {
      const { method, ranks, anchor, passing, ring_layout, blocks } = way;
      const layout = {
        method,
        ranks,
        documentTokens: tokens,
        queryTokens: query.length,
        anchorLength: anchor,
        passingLength: passing,
        ringLayout: ring_layout ?? 'contiguous',
        ...(blocks === 'balanced' && { blocks: planBlocks(way, tokens, [rates, rates]) }),
      };
      const ranked = await cohorts[ranks].measure({ layout, document, query });
      turns.push({
        seconds: Math.max(...ranked.map((rank) => (byClock ? rank.seconds : rank.processorSeconds))),
        clock: Math.max(...ranked.map((rank) => rank.seconds)),
      });
    }
  }
  return entries.map(({ way, turns }) => {
    const row = {
      tokens,
      runs: turns.length,
      load: loadavg()[0],
      way: describeWay(way),
      seconds: Math.min(...turns.map((turn) => turn.seconds)),
      median: median(turns.map((turn) => turn.seconds)),
      clock: Math.min(...turns.map((turn) => turn.clock)),
    };
    keep(row);
    return row;
  });
}

/** Of each policy's choice to the fastest way that the policy allows. */
function judge(tokens, measured) {
  const rows = fixedWays(tokens).map(({ way, policies }) => {
    const row = measured.find((line) => line.tokens === tokens && line.way === describeWay(way));
    return { ...row, policies, predicted: predictSeconds(facts, way, tokens) };
  });
  const ratios = POLICIES.map((policy) => {
    const request = { tokens, longestQuery: query.length, ranks: [1, 2], policy };
    const name = describeWay(choosePlan(facts, request).chosen);
    const chosen = rows.find((row) => row.way === name);
    const allowed = rows.filter((row) => row.policies.includes(policy));
    const best = allowed.reduce((a, b) => (b.seconds < a.seconds ? b : a));
    return { tokens, policy, chosen, best, ratio: chosen.seconds / best.seconds };
  });
  return { rows, ratios };
}

function median(numbers) {
  return numbers.toSorted((a, b) => a - b)[Math.floor((numbers.length - 1) / 2)];
}

function report() {
  const table = (head, lines) =>
    [head, head.map(() => '---'), ...lines].map((line) => `| ${line.join(' | ')} |`).join('\n');
  const loads = results.flatMap(({ rows }) => rows.map(({ load }) => load));
  const load = `${Math.min(...loads).toFixed(0)} to ${Math.max(...loads).toFixed(0)}`;
  const runs = [...new Set(results.map(({ rows: [{ tokens, runs }] }) => `${runs} at ${tokens}`))].join(', ');
  const fixed = [...new Set(results.flatMap(({ rows }) => rows.map(kind)))];
  const worst = Math.max(...results.flatMap(({ ratios }) => ratios.map(({ ratio }) => ratio)));
  return [
    '# The planner beside every fixed choice',
    '',
    `\`node bench/plan.js ${process.argv.slice(2).join(' ')}\`, ${new Date().toISOString().slice(0, 10)}: ${cpus()[0].model.trim()}, ${availableParallelism()} processors with a`,
    `load of ${load}; ${calibration.engine}, ${calibration.comm}; ${modelDir}; one rank or two. The calibration took ${calibrationSeconds.toFixed(0)} s there.`,
    `Turns: ${runs} tokens.`,
    '',
    ...(byClock
      ? ["A number is the slowest rank's seconds by the clock, the least of the turns."]
      : [
          'A number is processor seconds of the slowest rank, the least of the turns: how long a prefill takes where each rank has a',
          'processor of its own, communication included as far as it is computed. What the clock shows on a busy machine is more and says little.',
        ]),
    'The planner predicts the same number, and its choice is one of the ways: all took turns.',
    '',
    '## Choices',
    '',
    `The best is the fastest way that the policy allows, by measurement. The worst ratio is ${worst.toFixed(3)}.`,
    '',
    table(
      ['tokens', 'policy', 'planned', 'predicted, s', 'measured, s', 'best', 'its s', 'ratio'],
      results.flatMap(({ ratios }) =>
        ratios.map(({ tokens, policy, chosen, best, ratio }) => [
          tokens,
          policy,
          chosen.way,
          chosen.predicted.toPrecision(3),
          chosen.seconds.toPrecision(3),
          best.way,
          best.seconds.toPrecision(3),
          ratio.toFixed(3),
        ]),
      ),
    ),
    '',
    '## Every way',
    '',
    'Seconds, their median, and (predicted).',
    '',
    table(
      ['way', ...lengths],
      fixed.map((name) => [
        name,
        ...results.map(({ rows }) => {
          const row = rows.find((each) => kind(each) === name);
          return `${row.seconds.toPrecision(3)}, ${row.median.toPrecision(3)} (${row.predicted.toPrecision(3)})`;
        }),
      ]),
    ),
    '',
  ].join('\n');
}

/** A way without its sizes, which follow the length. */
function kind({ way, policies }) {
  const short = way.replace(/, l_a.*/, '');
  return way.startsWith('apb') ? `${short}, sizes of ${policies[0]}` : short;
}
