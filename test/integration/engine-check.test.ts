import { spawn, type ChildProcess } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runCases, type CaseResult } from '../../src/gpu-worker/check/run.js';

const cases = resolve('test/cases');
const children: ChildProcess[] = [];
const onSpawn = (_rank: number, child: ChildProcess) => void children.push(child);

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'longhaul-check-'));
  symlinkSync(join(cases, 'models'), join(folder, 'models'));
  children.length = 0;
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
  expect(children.filter((child) => child.exitCode === null && child.signalCode === null)).toEqual([]);
});

/** A case of its own, whose expectations can be spoilt. */
function copyOf(name: string): string {
  const dir = join(folder, 'cases', name);
  cpSync(join(cases, name), dir, { recursive: true });
  const input = JSON.parse(readFileSync(join(dir, 'case.json'), 'utf8')) as { model: string };
  input.model = join(cases, name, input.model);
  writeFileSync(join(dir, 'case.json'), JSON.stringify(input));
  return dir;
}

function change(dir: string, file: string, edit: (value: Record<string, never>) => object): void {
  const path = join(dir, file);
  writeFileSync(path, JSON.stringify(edit(JSON.parse(readFileSync(path, 'utf8')) as Record<string, never>)));
}

/** `longhaul engine check` as a process. */
function command(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const main = `
    const { engineCommand } = await import(${JSON.stringify(resolve('dist/cli/engine-check.js'))});
    await engineCommand().parseAsync(['check', ...process.argv.slice(1)], { from: 'user' });`;
  return new Promise((done, reject) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', main, '--', ...args]);
    let [out, err] = ['', ''];
    child.stdout.on('data', (data) => (out += String(data)));
    child.stderr.on('data', (data) => (err += String(data)));
    child.once('error', reject);
    child.once('close', (code) => done({ code, out, err }));
  });
}

test('every golden case agrees, over one to eight rank processes', async () => {
  const { code, out, err } = await command(cases, '--backend', 'cpu', '--json');
  const results = out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as CaseResult);
  expect(
    results.flatMap(({ name, measures }) =>
      measures.filter(({ ok }) => !ok).map((m) => ({ case: name, ...m })),
    ),
  ).toEqual([]);
  expect(results.length).toBeGreaterThanOrEqual(17);
  expect(new Set(results.map(({ ranks }) => ranks))).toEqual(new Set([1, 2, 3, 4, 8]));
  expect([code, err]).toEqual([0, '']);
});

test('the exact cases come out the same by ring, zigzag and ulysses, and ulysses refuses 3 ranks for 4 heads', async () => {
  for (const way of ['ring', 'ring --ring-layout zigzag', 'ulysses']) {
    const dirs = way.includes('zigzag') ? cases : join(cases, 'full-r4');
    const { code, out, err } = await command(dirs, '--backend', 'cpu', '--method', ...way.split(' '));
    expect([code, err]).toEqual([0, '']);
    expect(out).toMatch(/^ok {3}full-r4 by \S+( zigzag)?: 3 ranks/m);
    expect(out).toContain('not compared, another layout has other values: layout, selections, scores, lse');
    expect(out.includes('refused with ENGINE_UNSUPPORTED')).toBe(way === 'ulysses');
    expect(out).toContain(`${dirs === cases ? 8 : 4} of ${dirs === cases ? 8 : 4} cases agree`);
  }
});

test.each([
  ['logits', 'logits'],
  ['merged lse', 'query_merged_lse'],
  ['hidden', 'query_hidden'],
  ['cache norms', 'cache_norms'],
])('by another exact method the check still sees a wrong value: %s', async (measure, tensor) => {
  const dir = copyOf('full-r1');
  spoil(dir, tensor, 99);
  const results = await runCases({ dirs: [dir], way: { method: 'ring' }, backend: 'cpu', onSpawn });
  expect(results.map(({ ranks }) => ranks)).toEqual([1, 2, 3, 4]);
  for (const { measures } of results)
    expect(measures.filter(({ ok }) => !ok).map(({ name }) => name)).toEqual([measure]);
});

test('another exact method needs cases of method full, and a ring layout needs the ring', async () => {
  const { code, err } = await command(cases, '--method', 'ulysses', '--ring-layout', 'zigzag');
  expect([code === 0, err]).toEqual([false, expect.stringContaining('belongs to --method ring')]);
  await expect(
    runCases({ dirs: [join(cases, 'apb-r1')], way: { method: 'ring' }, backend: 'cpu' }),
  ).rejects.toMatchObject({
    code: 'CASE',
    message: expect.stringContaining('apb-r1 (apb)') as unknown,
  });
});

test('a case that disagrees fails the command, and is named with the measure', async () => {
  const dir = copyOf('apb-r2-eos');
  change(dir, 'expected.json', (expected) => ({ ...expected, logit_std: 1e-9 }));
  const { code, out } = await command(dir);
  expect(code).toBe(1);
  expect(out).toMatch(/^FAIL apb-r2-eos: 2 ranks, cpu/);
  expect(out).toMatch(/! logits +[\d.e+-]+ +may be 2.00e-3/);
  expect(out).toContain('0 of 1 cases agree');
});

/** Overwrites part of a tensor in expected.safetensors. */
function spoil(dir: string, tensor: string, value: number): void {
  const path = join(dir, 'expected.safetensors');
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, start)) as Record<
    string,
    { dtype: string; data_offsets: [number] }
  >;
  const entry = header[tensor];
  if (!entry) throw new Error(`no tensor ${tensor}`);
  const at = start + entry.data_offsets[0];
  if (entry.dtype === 'I32') bytes.writeInt32LE(value, at);
  else bytes.writeFloatLE(value, at);
  writeFileSync(path, bytes);
}

test.each([
  ['logits', 'logits', 99],
  ['selections', 'selected.1.0', 4095],
  ['scores', 'scores.0.0', 99],
  ['lse', 'query_lse', 99],
  ['lse', 'query_lse', NaN],
  ['merged lse', 'query_merged_lse', 99],
  ['hidden', 'query_hidden', 99],
  ['cache norms', 'cache_norms', 99],
])('the check sees a wrong value: %s', async (measure, tensor, value) => {
  const dir = copyOf('apb-r2-eos');
  spoil(dir, tensor, value);
  const [result] = await runCases({ dirs: [dir], backend: 'cpu', onSpawn });
  expect(result?.measures.filter(({ ok }) => !ok).map(({ name }) => name)).toEqual([measure]);
});

test('the check sees wrong tokens, another finish and another layout', async () => {
  const dir = copyOf('apb-r3-no-passing');
  change(dir, 'expected.json', (expected: { tokens?: number[] }) => ({
    ...expected,
    finish: 'eos',
    anchor_doc_tokens: 1,
    tokens: expected.tokens?.map((token, i) => (i === 5 ? token + 1 : token)),
  }));
  const [result] = await runCases({ dirs: [dir], backend: 'cpu', onSpawn });
  const failed = result?.measures.filter(({ ok }) => !ok).map(({ name }) => name);
  expect(failed).toEqual(['layout', 'tokens, fed the golden ones', 'tokens, choosing for itself']);
});

test.each(['before it starts', 'in the middle'])(
  'a rank that is killed %s ends the check with its name',
  async (when) => {
    const start = performance.now();
    const check = runCases({
      dirs: [join(cases, 'apb-r8')],
      backend: 'cpu',
      onSpawn: (rank, child) => {
        onSpawn(rank, child);
        if (rank !== 3) return;
        if (when === 'in the middle') child.once('message', () => child.kill('SIGKILL'));
        else child.kill('SIGKILL');
      },
    });
    await expect(check).rejects.toMatchObject({
      code: 'CHECK_RANK',
      message: 'rank 3 of apb-r8 ended by SIGKILL before it had a result',
    });
    expect(performance.now() - start).toBeLessThan(15_000);
  },
);

test('ranks that freeze are ended when the time is over', async () => {
  const check = runCases({
    dirs: [join(cases, 'apb-r1')],
    backend: 'cpu',
    timeoutMs: 1500,
    onSpawn: (rank, child) => {
      onSpawn(rank, child);
      child.kill('SIGSTOP');
    },
  });
  await expect(check).rejects.toMatchObject({
    code: 'CHECK_RANK',
    message: expect.stringContaining('did not finish in 1500 ms') as unknown,
  });
});

test('an aborted check leaves no rank behind', async () => {
  const controller = new AbortController();
  const check = runCases({
    dirs: [cases],
    backend: 'cpu',
    signal: controller.signal,
    onSpawn: (rank, child) => {
      onSpawn(rank, child);
      setTimeout(() => controller.abort(new Error('stopped by the person')), 50);
    },
  });
  await expect(check).rejects.toThrow('stopped by the person');
});

test('a rank that cannot load tells why, not that its peers were lost', async () => {
  const dir = copyOf('apb-r3-random');
  change(dir, 'case.json', (input) => ({ ...input, model: '/nowhere' }));
  await expect(runCases({ dirs: [dir], backend: 'cpu', onSpawn })).rejects.toMatchObject({
    code: 'CHECK_RANK',
    message: expect.stringMatching(
      /rank \d of apb-r3-random failed: .*\/nowhere.*\(ENGINE_CONFIG\)/,
    ) as unknown,
  });
  await expect(runCases({ dirs: [join(cases, 'apb-r1')], backend: 'cuda', onSpawn })).rejects.toMatchObject({
    message: expect.stringContaining('ENGINE_UNSUPPORTED') as unknown,
  });
});

test('folders that are no cases, and broken cases, are refused by name', async () => {
  await expect(runCases({ dirs: [folder] })).rejects.toMatchObject({
    code: 'CASE',
    message: expect.stringContaining(folder) as unknown,
  });
  await expect(runCases({ dirs: ['/nowhere'] })).rejects.toMatchObject({ code: 'CASE' });
  const dir = copyOf('apb-r1');
  change(dir, 'case.json', (input) => ({ ...input, ranks: 'two' }));
  await expect(runCases({ dirs: [dir] })).rejects.toMatchObject({
    code: 'CASE',
    message: expect.stringContaining('ranks') as unknown,
  });
});
