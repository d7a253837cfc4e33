/**
 * How fast a submit is and what memory it takes: a real redis-server, the local S3 server, the demo
 * model's tokenizer, documents of random words. Prints one JSON line.
 *
 *   node bench/submit.js                          10,000 requests over 1,000 documents of 4,000 tokens
 *   node bench/submit.js --tokens 32000 --heap 64 longer documents, a JavaScript heap of 64 MB
 *   node bench/submit.js --requests 1 --documents 1 --megabytes 40 --heap 48
 *   node bench/submit.js --requests 2000 --documents 200 --question 8000 --heap 64
 *
 * `cpu_seconds` are those of the submit alone; `services_cpu_seconds` those of Redis and S3 beside it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cpuSeconds, dist, startRedis, startS3 } from './services.js';

const root = fileURLToPath(new URL('..', import.meta.url));

if (process.argv[2] === 'child') {
  const [, , , report, ...args] = process.argv;
  process.argv.splice(2, process.argv.length, ...args);
  const { writeFileSync } = await import('node:fs');
  const begun = performance.now();
  process.on('exit', () => {
    const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
    const seconds = (performance.now() - begun) / 1000;
    const cpu_seconds = (userCPUTime + systemCPUTime) / 1e6;
    writeFileSync(report, JSON.stringify({ seconds, cpu_seconds, peak_rss_bytes: maxRSS * 1024 }));
  });
  await import(join(dist, 'cli/main.js'));
} else {
  const { values } = parseArgs({
    options: {
      requests: { type: 'string', default: '10000' },
      documents: { type: 'string', default: '1000' },
      tokens: { type: 'string', default: '4000' },
      megabytes: { type: 'string' },
      question: { type: 'string', default: '60' },
      heap: { type: 'string' },
    },
  });
  const directory = await mkdtemp(join(tmpdir(), 'longhaul-bench-'));
  const children = [];
  try {
    await measure(values, directory, children);
  } finally {
    for (const child of children) child.kill('SIGKILL');
    await rm(directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function measure({ requests, documents, tokens, megabytes, question, heap }, directory, children) {
  // Of these words a token of the demo model covers 1.6 characters.
  const size = megabytes === undefined ? Number(tokens) * 1.6 : Number(megabytes) * 1e6;
  await writeInput(directory, Number(requests), Number(documents), size, Number(question));
  const redis = await startRedis(directory, children);
  const s3 = await startS3(directory, children);
  const environment = {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('LONGHAUL_'))),
    LONGHAUL_REDIS_URL: `redis://127.0.0.1:${redis.port}`,
    LONGHAUL_MODEL_DIR: join(root, 'models/demo'),
    ...s3.environment,
    AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true',
  };
  const report = join(directory, 'report.json');
  const flags = heap === undefined ? [] : [`--max-old-space-size=${heap}`];
  const submit = ['submit', join(directory, 'requests.jsonl'), '--json', '--allow-too-long'];
  const child = spawn(
    process.execPath,
    [...flags, fileURLToPath(import.meta.url), 'child', report, ...submit],
    {
      cwd: directory,
      env: environment,
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  children.push(child);
  let printed = '';
  child.stdout.on('data', (text) => (printed += text));
  const [code, signal] = await once(child, 'close');
  if (code !== 0) throw new Error(`the submit ended with ${code ?? signal}`);
  const { totals, documentTokens } = JSON.parse(printed);
  const services_cpu_seconds = (await cpuSeconds(redis.child.pid)) + (await cpuSeconds(s3.child.pid));
  console.log(
    JSON.stringify({
      ...totals,
      document_tokens: documentTokens,
      ...JSON.parse(await readFile(report, 'utf8')),
      services_cpu_seconds,
      heap_limit_mb: heap === undefined ? null : Number(heap),
      machine: `${availableParallelism()} x ${cpus()[0]?.model}`,
      load: loadavg()[0],
    }),
  );
}

async function writeInput(directory, requests, documents, size, questionSize) {
  await mkdir(join(directory, 'documents'));
  let state = 1;
  const random = (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state % below;
  };
  const words = Array.from({ length: 4_000 }, () =>
    Array.from({ length: 2 + random(8) }, () => 'etaoinshrdlu'[random(12)]).join(''),
  );
  const textOf = (length) => {
    let text = words[random(words.length)];
    while (text.length < length) text += ' ' + words[random(words.length)];
    return text;
  };
  for (let document = 0; document < documents; document++) {
    const file = createWriteStream(join(directory, 'documents', `${document}.txt`));
    for (let written = 0; written < size;) {
      const text = Array.from({ length: 2_000 }, () => words[random(words.length)]).join(' ') + '.\n';
      const part = text.slice(0, size - written);
      written += part.length;
      if (!file.write(part)) await once(file, 'drain');
    }
    file.end();
    await once(file, 'close');
  }
  const file = createWriteStream(join(directory, 'requests.jsonl'));
  for (let request = 0; request < requests; request++) {
    const line = {
      custom_id: `request-${request}`,
      document: { path: `documents/${request % documents}.txt` },
      question: textOf(questionSize - 20) + ` on page ${request}?`,
    };
    if (!file.write(JSON.stringify(line) + '\n')) await once(file, 'drain');
  }
  file.end();
  await once(file, 'close');
}
