// How fast documents become ids, with the real tokenizers of the tests: make test-data build, then
//   node bench/tokenizer.js [FILE]
// FILE: a long English text; default: the texts of the demo. One line of JSON for each measurement:
//   one_core   tokens per processor second, of a text that is new and of one whose words are known
//   library    the same text in one call of the tokenizers library
//   documents  documents side by side in threads: tokens per second, and the longest time that the event loop
//              was held up, beside that of a loop with nothing to do at the same time
//   endless    10 MB of what tokenizers are slow at
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { Buffer } from 'node:buffer';
import { availableParallelism, cpus } from 'node:os';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { Worker } from 'node:worker_threads';
import { Tokenizer } from 'tokenizers';

const root = new URL('..', import.meta.url);
const { openTextEncoding } = await import(new URL('dist/text/text-encoder.js', root).href);
const { EncoderPool } = await import(new URL('dist/text/encoder-pool.js', root).href);
const { parseTokenizerFile } = await import(new URL('dist/text/tokenizer-file.js', root).href);

const MEGABYTES_10 = 10_000_000;
const PIECE = 1 << 17;
const never = new globalThis.AbortController().signal;
const say = (line) => console.log(JSON.stringify(line));
const round = (value) => Math.round(value * 100) / 100;

function books() {
  const texts = new URL('demo/texts/', root);
  const names = readdirSync(texts).filter((name) => name.endsWith('.txt'));
  return names.map((name) => readFileSync(new URL(name, texts), 'utf8')).join('\n');
}

/** The text again and again, with numbers in between so that it is not all known. */
function grow(text, length) {
  const parts = [];
  for (let size = 0, n = 0; size < length; n++) {
    const at = (n * 4099) % Math.max(1, text.length - 50_000);
    const part = `${text.slice(at, at + 50_000)}\n\n${n * n}. `;
    parts.push(part);
    size += part.length;
  }
  return parts.join('');
}

/** English, source text, tables and eight other scripts in turn. */
function mixed(english, length) {
  let seed = 1;
  const random = (below) => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) % below;
  const scripts = [0x0410, 0x0391, 0x05d0, 0x0627, 0x0905, 0x3042, 0x4e00, 0xac00];
  const word = (first, span) =>
    String.fromCodePoint(...Array.from({ length: 2 + random(7) }, () => first + random(span)));
  const parts = [];
  for (let size = 0, n = 0; size < length; n++) {
    const at = (n * 4099) % Math.max(1, english.length - 2000);
    const first = scripts[n % scripts.length];
    const foreign = Array.from({ length: 120 }, () => word(first, first === 0x4e00 ? 3000 : 26));
    const code = Array.from(
      { length: 20 },
      () => `  if (x_${random(900)} != ${random(1e6)}) { f(&v[${random(64)}]); }`,
    );
    const table = Array.from(
      { length: 20 },
      () => `${random(1e9)}\t${random(1e5) / 100}\t${random(2) ? 'yes' : 'no'}`,
    );
    const part = [
      english.slice(at, at + 2000),
      foreign.join(first === 0x4e00 ? '，' : ' '),
      ...code,
      ...table,
    ].join('\n');
    parts.push(part);
    size += part.length;
  }
  return parts.join('');
}

/** `work` gives the number of its tokens. */
async function measure(work) {
  const begun = process.cpuUsage();
  const start = performance.now();
  const tokens = await work();
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(begun);
  const tokens_per_cpu_s = Math.round((tokens / (user + system)) * 1e6);
  return { tokens, seconds: round(seconds), tokens_per_cpu_s };
}

const encode = (session, text) =>
  measure(async () => {
    let tokens = 0;
    for (let at = 0; at < text.length;) {
      let end = Math.min(text.length, at + PIECE);
      if (end < text.length && (text.charCodeAt(end) & 0xfc00) === 0xdc00) end -= 1;
      tokens += (await session.push(text.slice(at, end), end === text.length)).length;
      at = end;
    }
    return tokens;
  });

const IDLE_LOOP = `
  const { monitorEventLoopDelay } = require('node:perf_hooks');
  const { parentPort } = require('node:worker_threads');
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const ms = (ns) => Math.round(ns / 1e4) / 100;
  parentPort.once('message', () => {
    delay.disable();
    parentPort.postMessage({ longest: ms(delay.max), p99: ms(delay.percentile(99)) });
  });
`;

async function side(path, texts, threads) {
  const pool = new EncoderPool(path, threads);
  const run = async (text) => {
    let tokens = 0;
    for await (const ids of pool.encode(text)) tokens += ids.length;
    return tokens;
  };
  await Promise.all(Array.from({ length: threads }, () => run('x '.repeat(2_000_000))));
  const idle = new Worker(IDLE_LOOP, { eval: true });
  await new Promise((resolve) => idle.once('online', resolve));
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const start = performance.now();
  const tokens = (await Promise.all(texts.map(run))).reduce((sum, n) => sum + n, 0);
  const seconds = (performance.now() - start) / 1000;
  delay.disable();
  const idleMs = new Promise((resolve) => idle.once('message', resolve));
  idle.postMessage('done');
  await pool.close();
  return {
    threads,
    documents: texts.length,
    tokens,
    tokens_per_s: Math.round(tokens / seconds),
    loop_ms: { longest: round(delay.max / 1e6), p99: round(delay.percentile(99) / 1e6) },
    idle_loop_ms: await idleMs,
  };
}

const endless = {
  'one letter': 'a',
  'one control character': '\u0001',
  spaces: ' ',
  'one ideograph': '中',
  'combining marks': '\u0301\u0323',
};

const english = process.argv[2] === undefined ? books() : readFileSync(process.argv[2], 'utf8');
const texts = { english: grow(english, MEGABYTES_10), mixed: mixed(english, MEGABYTES_10) };
say({
  cpu: cpus()[0]?.model,
  cores: availableParallelism(),
  node: process.version,
  characters: english.length,
});
const paths = ['llama3_1', 'qwen3'].map((name) => {
  const path = new URL(`.longhaul/test-data/tokenizers/${name}-3.7.2/tokenizer.json`, root).pathname;
  if (!existsSync(path)) throw new Error(`${path} is missing; run: make test-data`);
  return [name, path];
});
// First, while this thread holds no tokenizer that its garbage collection would have to walk.
for (const [name, path] of paths) {
  const documents = Array.from({ length: 4 }, () => texts.english);
  for (const threads of new Set([1, availableParallelism()])) {
    say({ name, measure: 'documents', ...(await side(path, documents, threads)) });
  }
}
for (const [name, path] of paths) {
  const file = parseTokenizerFile(path, readFileSync(path));
  const library = Tokenizer.fromString(JSON.stringify({ ...file, added_tokens: [], post_processor: null }));
  for (const [kind, text] of Object.entries(texts)) {
    const encoding = await openTextEncoding(path, file);
    say({ name, measure: 'one_core', kind, known: false, ...(await encode(encoding.open(never), text)) });
    say({ name, measure: 'one_core', kind, known: true, ...(await encode(encoding.open(never), text)) });
    const whole = async () => (await library.encode(text, null, { addSpecialTokens: false })).getIds().length;
    say({ name, measure: 'library', kind, ...(await measure(whole)) });
  }
  for (const [kind, unit] of Object.entries(endless)) {
    const encoding = await openTextEncoding(path, file);
    const text = unit.repeat(MEGABYTES_10 / Buffer.byteLength(unit));
    say({ name, measure: 'endless', kind, ...(await encode(encoding.open(never), text)) });
  }
}
