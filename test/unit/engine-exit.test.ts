/** Processes and worker threads that end, or forget their engine, at awkward moments. */
import { spawn } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { slowDocument, smallModel, temporaryFolder, writeSlowModel } from './engine-fixture.js';

const compiled = resolve('dist/gpu-worker/engine/engine.js');
const folder = temporaryFolder();
beforeAll(() => {
  if (!existsSync(compiled)) throw new Error(`${compiled} is missing; run \`make build\``);
  writeSlowModel(folder.path);
});
afterAll(folder.dispose);

const prelude = `
import { readdirSync } from "node:fs";
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker, isMainThread, parentPort } from 'node:worker_threads';
import { Engine } from ${JSON.stringify(pathToFileURL(compiled).href)};

async function ready(modelDir) {
  const engine = Engine.create();
  await engine.load({ modelDir, backend: 'cpu', threads: 2 });
  await engine.connect({ rank: 0, peers: ['alone:0'], secret: '', deadlineMs: 1000 });
  return engine;
}
const tokens = (n) => new Uint32Array(n).fill(1);
const prefill = (engine, n, onProgress) => engine.prefill({
  layout: { method: 'full', ranks: 1, documentTokens: n, queryTokens: 1, passingLength: 0 },
  head: tokens(0), block: tokens(n), query: tokens(1), onProgress,
});
const slow = ${JSON.stringify(folder.path)};
const small = ${JSON.stringify(smallModel)};
const long = ${slowDocument};
`;

interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  output: string;
}

function run(name: string, body: string, flags: string[] = []): Promise<Ended> {
  const script = join(folder.path, `${name}.mjs`);
  writeFileSync(script, prelude + body);
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...flags, script], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 30_000,
    });
    let output = '';
    child.stdout.on('data', (data) => (output += String(data)));
    child.stderr.on('data', (data) => (output += String(data)));
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal, output }));
  });
}

const clean = (output: string): Ended => ({ code: 0, signal: null, output });

test('process.exit in the middle of a prefill', async () => {
  const body = `
    const engine = await ready(slow);
    prefill(engine, long, () => { console.log('running'); process.exit(0); }).catch(() => console.log('never seen'));`;
  expect(await run('exit', body)).toEqual(clean('running\n'));
});

test('an idle engine that was never disposed of does not keep the process', async () => {
  expect(await run('idle', `await prefill(await ready(small), 16); console.log('done');`)).toEqual(
    clean('done\n'),
  );
});

test('a pending call keeps the process until it is done', async () => {
  const body = `ready(small).then((engine) => prefill(engine, 16)).then(() => console.log('done'));`;
  expect(await run('pending', body)).toEqual(clean('done\n'));
});

test('a worker thread that is terminated in the middle of a prefill', async () => {
  const body = `
    if (isMainThread) {
      for (let i = 0; i < 2; i++) {
        const worker = new Worker(new URL(import.meta.url));
        await new Promise((resolve) => worker.once('message', resolve));
        await worker.terminate();
      }
      console.log('terminated');
    } else {
      let first = true;
      await prefill(await ready(slow), long, () => { if (first) parentPort.postMessage('running'); first = false; });
    }`;
  expect(await run('terminate', body)).toEqual(clean('terminated\n'));
});

test('engines in worker threads that end by themselves, beside one in the main thread', async () => {
  const body = `
    const engine = await ready(small);
    await prefill(engine, 16);
    if (isMainThread) {
      const workers = [1, 2].map(() => new Worker(new URL(import.meta.url)));
      const codes = await Promise.all(workers.map((w) => new Promise((resolve) => w.once('exit', resolve))));
      await prefill(engine, 16);
      console.log(codes.join());
    }`;
  expect(await run('workers', body)).toEqual(clean('0,0\n'));
});

test('engines that are forgotten are collected, with their memory and threads', async () => {
  const body = `
    const threads = () => readdirSync('/proc/self/task').length;
    const before = threads();
    for (let i = 0; i < 30; i++) {
      await prefill(await ready(small), 16);
      gc();
      await sleep(1);
    }
    for (let i = 0; i < 20 && threads() > before + 8; i++) { gc(); await sleep(20); }
    console.log(threads() <= before + 8 ? 'collected' : 'left: ' + (threads() - before));`;
  expect(await run('forgotten', body, ['--expose-gc'])).toEqual(clean('collected\n'));
});

test('a progress callback that throws is an uncaught exception', async () => {
  const body = `
    process.on('uncaughtException', (error) => { console.log(error.message); process.exit(3); });
    await prefill(await ready(slow), long, () => { throw new Error('from the callback'); });`;
  expect(await run('throws', body)).toEqual({ code: 3, signal: null, output: 'from the callback\n' });
});
