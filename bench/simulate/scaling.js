/**
 * How far longhaul scales, by simulation: documents a day by GPUs and length, and what stops first. Writes the tables of
 * docs/scaling.md between its marks, docs/benchmarks/scaling.jsonl and scaling.svg.
 *
 *   node bench/simulate/scaling.js
 *
 * From docs/benchmarks: prefill and decode of cohorts of one and two H100 (methods.jsonl), prefill of eight simulated ones
 * (virtual-ranks.jsonl), what a document costs Redis, aggregators and submit (scaling-inputs.jsonl, made by measure.js,
 * commits.js and bench/submit.js).
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { plot } from './plot.js';
import { simulate } from './simulate.js';

const docs = fileURLToPath(new URL('../../docs/', import.meta.url));
const lines = (name) =>
  readFileSync(`${docs}benchmarks/${name}.jsonl`, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

const LENGTHS = [32768, 131072, 262144, 524288];
const ANSWER_TOKENS = 64;
const LAYERS = 32;
const DAY = 86_400;

/** PUTs of one prefix, each second, as AWS documents them. */
const S3_PUTS = 3500;
/** Interruptions of a GPU an hour: 419 in 54 days of 16,384 (The Llama 3 Herd of Models, 2024). */
const DEATHS = 419 / (54 * 24 * 16_384);
/** Aggregators, and submits at a time: as infra/kubernetes has them, and more for the many. */
const SIZES = [
  { gpus: 1, aggregators: 2, submits: 1 },
  { gpus: 8, aggregators: 2, submits: 1 },
  { gpus: 64, aggregators: 2, submits: 1 },
  { gpus: 1000, aggregators: 2, submits: 1 },
  { gpus: 1000, aggregators: 8, submits: 16 },
];

const methods = lines('methods');
const virtual = lines('virtual-ranks');
const inputs = lines('scaling-inputs');
const input = (what) => {
  const found = inputs.find((line) => line.what === what);
  if (found === undefined) throw new Error(`docs/benchmarks/scaling-inputs.jsonl has no line for ${what}`);
  return found;
};
const [item, commits, submit] = ['per item', 'commits', 'submit'].map(input);

/** Seconds of a prefill by a cohort of so many GPUs; undefined: it was not measured, or does not fit. */
function prefill(ranks, tokens) {
  if (ranks === 8) {
    const run = virtual.find(
      (each) => each.method === 'apb uneven' && each.ranks === 8 && each.tokens === tokens,
    );
    if (run === undefined) return undefined;
    // Keys and values of 8 heads of 128 in two bytes, from seven ranks, once for each layer: docs/benchmarks/virtual-ranks.md.
    const gather = LAYERS * (0.08e-3 + (7 * run.passing * 2 * 8 * 128 * 2) / 215e9);
    return Math.max(...run.seconds) + gather;
  }
  const run = methods.find(
    (each) =>
      each.method === (ranks === 1 ? 'full' : 'apb uneven') && each.ranks === ranks && each.tokens === tokens,
  );
  return run && median(run.seconds);
}

/** Seconds of a decoded token: eight ranks hold of a document what two hold of a quarter of it, and are taken to be as fast. */
function decode(ranks, tokens) {
  const method = ranks === 1 ? 'full' : 'apb uneven';
  const length = ranks === 8 ? Math.max(32768, tokens / 4) : tokens;
  return methods.find(
    (each) => each.method === method && each.ranks === Math.min(ranks, 2) && each.tokens === length,
  )?.decode_seconds;
}

const beatsOf = (gpus) => gpus * commits.rank_redis_seconds;

function scenario({ gpus, aggregators, submits }, ranks, tokens) {
  const prefillSeconds = prefill(ranks, tokens);
  const decodeSeconds = ANSWER_TOKENS * decode(ranks, tokens);
  const count = Math.floor(gpus / ranks);
  const service = item.claimSeconds + prefillSeconds + decodeSeconds;
  // Heartbeats take their part of Redis before any document does.
  const redis = 1 / (1 - beatsOf(gpus));
  const run = commits.run_redis_seconds * redis;
  return {
    seed: 1,
    documents: Infinity,
    mix: [{ tokens, weight: 1, prefillSeconds, decodeSeconds }],
    arrivals: {},
    submit: {
      processes: submits,
      secondsPerDocument: submit.cpu_seconds_per_document,
      secondsPerToken: submit.cpu_seconds_per_token,
      redisSeconds: commits.submit_redis_seconds * redis,
      s3Requests: 2,
    },
    cohorts: {
      count,
      claimSeconds: item.claimSeconds,
      formSeconds: 60,
      formed: true,
      deathsPerHour: DEATHS * ranks,
      detectSeconds: 60,
      redisSeconds: run / 2,
      s3Requests: 0,
    },
    aggregators: {
      count: aggregators,
      secondsPerItem: commits.aggregator_seconds,
      redisSeconds: run / 2,
      s3Requests: 2,
    },
    s3: { requestsPerSecond: S3_PUTS, latency: 0.05 },
    uncommittedBound: 1000,
    // Some tens of documents for each cohort.
    horizon: Math.max(900, 40 * service),
  };
}

const NAMES = { submit: 'submit', redis: 'Redis', s3: 'S3', cohorts: 'GPUs', aggregators: 'aggregators' };
const rows = [];
for (const tokens of LENGTHS) {
  for (const size of SIZES) {
    const { gpus, aggregators, submits } = size;
    const shapes = [1, 2, 8].filter((ranks) => ranks <= gpus && prefill(ranks, tokens) !== undefined);
    // What the GPUs could do decides the shape of the cohorts; then everything else has its say.
    const rate = (ranks) =>
      Math.floor(gpus / ranks) /
      (item.claimSeconds + prefill(ranks, tokens) + ANSWER_TOKENS * decode(ranks, tokens));
    const ranks = shapes.sort((a, b) => rate(b) - rate(a))[0];
    if (ranks === undefined) {
      rows.push({ tokens, ...size, ranks: null });
      continue;
    }
    const plan = scenario(size, ranks, tokens);
    const { documentsPerSecond, tokensPerSecond, utilisation, deaths, wastedSeconds } = simulate(plan);
    // Documents never run out, so a submit runs ahead of the cohorts: its share is that of what was committed.
    const { secondsPerDocument, secondsPerToken, processes } = plan.submit;
    utilisation.submit = (documentsPerSecond * (secondsPerDocument + secondsPerToken * tokens)) / processes;
    utilisation.s3 = (documentsPerSecond * (plan.submit.s3Requests + plan.aggregators.s3Requests)) / S3_PUTS;
    const redisSeconds = commits.submit_redis_seconds + commits.run_redis_seconds;
    utilisation.redis = documentsPerSecond * redisSeconds + beatsOf(gpus);
    const [[bottleneck], [next, share]] = Object.entries(utilisation).sort(([, x], [, y]) => y - x);
    rows.push({
      tokens,
      gpus,
      aggregators,
      submits,
      ranks,
      documents_per_day: documentsPerSecond * DAY,
      gpus_alone_per_day: rate(ranks) * DAY,
      bottleneck: NAMES[bottleneck],
      // What all GPUs ask of it grows with their number.
      next: bottleneck === 'cohorts' ? { part: NAMES[next], gpus: gpus / share } : null,
      utilisation,
      gpu_seconds_per_million_tokens: (gpus * 1e6) / tokensPerSecond,
      gpu_seconds_per_million_tokens_alone: ((gpus / rate(ranks)) * 1e6) / tokens,
      deaths,
      wasted_seconds: wastedSeconds,
    });
  }
}
writeFileSync(`${docs}benchmarks/scaling.jsonl`, rows.map((row) => JSON.stringify(row)).join('\n') + '\n');

const short = (value) =>
  value >= 1e6
    ? `${(value / 1e6).toFixed(1)} M`
    : value >= 1e4
      ? `${Math.round(value / 1e3)} K`
      : String(Math.round(value));
/** Two digits: more would promise too much. */
const round = (value) => Number(value.toPrecision(2)).toLocaleString('en');
const percent = (share) => `${Math.round(share * 100)} %`;
const table = (head, body) =>
  [head, head.map(() => '---'), ...body].map((cells) => `| ${cells.join(' | ')} |`).join('\n');

const main = table(
  [
    'tokens',
    'GPUs',
    'submits, aggregators',
    'ranks of a cohort',
    'documents a day',
    'the GPUs alone',
    'first bottleneck',
    'next, at GPUs',
    'busy: submit',
    'Redis',
    'S3',
    'GPUs',
    'aggregators',
    'GPU s per M tokens',
    'with all GPUs busy',
  ],
  rows.map((row) =>
    row.ranks === null
      ? [`${row.tokens / 1024}K`, row.gpus, '', 'does not fit', ...Array(11).fill('')]
      : [
          `${row.tokens / 1024}K`,
          row.gpus,
          `${row.submits}, ${row.aggregators}`,
          row.ranks,
          short(row.documents_per_day),
          short(row.gpus_alone_per_day),
          row.bottleneck,
          row.next === null ? '' : `${row.next.part}, ${round(row.next.gpus)}`,
          ...['submit', 'redis', 's3', 'cohorts', 'aggregators'].map((part) =>
            percent(row.utilisation[part]),
          ),
          row.gpu_seconds_per_million_tokens.toFixed(1),
          row.gpu_seconds_per_million_tokens_alone.toFixed(1),
        ],
  ),
);
const redisItem = commits.submit_redis_seconds + commits.run_redis_seconds;
const ms = (seconds) => `${(seconds * 1000).toFixed(1)} ms`;
const submits = (tokens) =>
  (1 / (submit.cpu_seconds_per_document + submit.cpu_seconds_per_token * tokens)).toFixed(1);
const beats = percent(1000 * commits.rank_redis_seconds);
const limits = table(
  ['part', 'of a document', 'at most, each second', 'from'],
  [
    [
      'submit, one process',
      `${ms(submit.cpu_seconds_per_document)} of a processor, and ${ms(submit.cpu_seconds_per_token * 1e4)} for 10,000 tokens`,
      `${submits(32768)} documents of 32K tokens, ${submits(524288)} of 512K`,
      '`bench/submit.js`, `bench/tokenizer.js`',
    ],
    [
      'Redis, one thread',
      `${ms(redisItem)}, ${Math.round(commits.redis_commands)} commands (those inside scripts too)`,
      `${Math.round(1 / redisItem)} documents; heartbeats of 1000 ranks take ${beats} of it`,
      '`commits.js`',
    ],
    [
      'an aggregator',
      `${ms(commits.aggregator_seconds)} of a processor`,
      `${Math.round(1 / commits.aggregator_seconds)} commits`,
      '`commits.js`',
    ],
    [
      'S3',
      '4 PUTs: document, item, timeline, outcome',
      `${S3_PUTS / 4} documents under one prefix`,
      "AWS's 3500 PUTs a second",
    ],
    ['a cohort, beside prefill and decode', ms(item.claimSeconds), '', '`measure.js`'],
  ],
);
const validation = table(
  ['cohorts', 'documents', 'real, s', 'simulated, s', 'simulated / real', 'load of the machine'],
  inputs
    .filter(({ what }) => what === 'batch')
    .map((line) => [
      line.cohorts,
      line.documents,
      line.real_seconds.toFixed(1),
      line.simulated_seconds.toFixed(1),
      line.ratio.toFixed(2),
      line.load.toFixed(0),
    ]),
);
const page = `${docs}scaling.md`;
let text = readFileSync(page, 'utf8');
for (const [name, made] of Object.entries({ scaling: main, limits, validation })) {
  const [from, to] = [`<!-- ${name} -->\n`, `\n<!-- /${name} -->`];
  const begin = text.indexOf(from);
  const end = text.indexOf(to);
  if (begin < 0 || end < begin) throw new Error(`docs/scaling.md has no marks for ${name}`);
  text = text.slice(0, begin + from.length) + made + text.slice(end);
}
writeFileSync(page, text);
writeFileSync(`${docs}benchmarks/scaling.svg`, plot(rows));
console.log(main);
