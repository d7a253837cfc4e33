/**
 * `longhaul eval --local`, as a person runs it: a system of its own, a cohort of each number of ranks in turn, and nothing
 * left behind. Interrupted, it goes on where it was.
 */
import { spawn } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { LocalStatus } from '../../src/local/status.js';
import { tempDir, trackLeaks } from '../support/services.js';

trackLeaks();
let work: string;
beforeEach(async () => {
  work = await tempDir('longhaul-eval-local-');
});
afterEach(() => rm(work, { recursive: true, force: true }));

interface Ended {
  code: number | null;
  out: string;
  err: string;
}

function longhaul(args: string[], interruptAt?: string): Promise<Ended> {
  const command = [resolve('bin/longhaul.js'), '--profile', 'fast', ...args];
  const child = spawn(process.execPath, command, { cwd: work, stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout.on('data', (text: Buffer) => (out += text.toString()));
  child.stderr.on('data', (text: Buffer) => {
    err += text.toString();
    if (interruptAt !== undefined && err.includes(interruptAt)) {
      interruptAt = undefined;
      child.kill('SIGINT');
    }
  });
  return new Promise((done) => child.once('close', (code) => done({ code, out, err })));
}

it('runs each number of ranks in turn, also after an interruption, and leaves no process', async () => {
  const plan = ['--tasks', 'niah_single_2', '--tokens', '512', '--documents', '2'];
  const methods = ['--ranks', '2', '--methods', 'full,apb:query=none,apb:ranks=1'];
  const args = ['eval', 'ruler', '--local', '--out', 'out', ...plan, ...methods];

  const first = await longhaul(args, 'full, 512 tokens: waiting');
  expect(first.code).toBe(130);
  const stopped = JSON.parse(
    (await longhaul(['local', 'status', '--dir', 'out/local', '--json'])).out,
  ) as LocalStatus;
  expect(stopped.state).toBe('down');

  const second = await longhaul(args);
  expect(second).toMatchObject({ code: 0 });
  expect(second.err.match(/submitted before/g)).toHaveLength(2);
  expect(second.err.match(/ready: cohort of \d/g)).toEqual(['ready: cohort of 2', 'ready: cohort of 1']);
  const { methods: found } = JSON.parse(await readFile(join(work, 'out/report.json'), 'utf8')) as {
    methods: { variant: string; ranks: number; results: Record<string, { score: number }> }[];
  };
  expect(found.map(({ variant, ranks }) => [variant, ranks])).toEqual([
    ['full', 2],
    ['apb:query=none', 2],
    ['apb:ranks=1', 1],
  ]);
  for (const { results } of found) expect(Object.values(results).map(({ score }) => score)).toEqual([1, 1]);
  const last = JSON.parse(
    (await longhaul(['local', 'status', '--dir', 'out/local', '--json'])).out,
  ) as LocalStatus;
  expect(last.state).toBe('down');
});
