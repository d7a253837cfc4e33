/**
 * The kill matrix: a process is killed at a point of the protocol, and the batch ends right within a bound.
 * `make chaos` runs the whole of it and writes docs/reliability.md; without MATRIX=whole the listed cells run.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeEach, expect, it } from 'vitest';
import { toEnvironment, type Settings } from '../../src/platform/config.js';
import { objectKeys } from '../../src/platform/keys.js';
import type { Timings } from '../../src/platform/timings.js';
import { watch } from '../support/leaks.js';
import { endProcess, tempDir } from '../support/services.js';
import { listedCells, nameOf, wholeMatrix, type Cell } from './cells.js';
import { until, useBench, type Bench } from './cohort-support.js';
import { expectAnswered, type Expected } from './invariants.js';
import { writeMatrix, type CellResult } from './matrix-table.js';

const whole = process.env['MATRIX'] === 'whole';
const cells = whole ? wholeMatrix : listedCells;
const file = useBench(8);
let bench: Bench;
let folder: string;
/** Answers of an undisturbed run, by number of ranks. */
const undisturbed = new Map<number, { answers: string[][]; ms: number }>();
const results: CellResult[] = [];

beforeEach(async () => {
  ({ bench } = file);
  folder = await tempDir('longhaul-matrix-');
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});
afterAll(() => {
  if (whole && results.length === cells.length) writeMatrix(resolve('docs/reliability.md'), results);
});

function longhaul(command: string[], settings: Partial<Settings> = {}): ChildProcess {
  const { services } = file;
  const environment = toEnvironment({
    redisUrl: services.redis.url,
    profile: 'fast',
    logLevel: 'silent',
    modelDir: services.modelDir,
    ...services.s3.settings,
    ...settings,
  });
  return watch(
    spawn(process.execPath, [resolve('bin/longhaul.js'), ...command], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...environment },
    }),
  );
}

/** A process that is started anew when it dies. */
class Kept {
  private child: ChildProcess;
  private stopping = false;
  constructor(
    private readonly command: string[],
    private readonly settings: Partial<Settings>,
  ) {
    this.child = this.start();
  }
  private start(): ChildProcess {
    const child = longhaul(this.command, this.settings);
    child.once('exit', () => {
      if (!this.stopping) this.child = this.start();
    });
    return child;
  }
  async stop(): Promise<void> {
    this.stopping = true;
    await endProcess(this.child);
  }
}

const DOCUMENTS = ['The night was cold. ', 'All ships were gone by then. ', 'A ledger lay open. '];

/** Three documents with two questions each; the name makes it a batch of its own. */
async function writeInput(name: string): Promise<{ path: string; ids: string[] }> {
  const path = join(folder, 'requests.jsonl');
  const ids = DOCUMENTS.map((_, i) => `${name} ${i}`);
  const lines = DOCUMENTS.map((text, i) =>
    JSON.stringify({
      custom_id: ids[i],
      document: text.repeat(40),
      questions: ['Who?', 'When was it?'],
      max_tokens: 12,
      // So that no two answers are alike.
      temperature: 2,
      seed: 100 + i,
    }),
  );
  await writeFile(path, lines.join('\n') + '\n');
  return { path, ids };
}

/** The batch's id; null when the command was killed. */
async function submit(path: string, ranks: number, settings: Partial<Settings> = {}): Promise<string | null> {
  const child = longhaul(['submit', path, '--method', 'full', '--ranks', String(ranks), '--json'], settings);
  let out = '';
  child.stdout?.on('data', (text: Buffer) => (out += text.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code === null) return null;
  expect(code).toBe(0);
  return (JSON.parse(out) as { id: string }).id;
}

const ended = (id: string, ms: number) =>
  until(`the end of ${id}`, ms, () => bench.store.exists(objectKeys.success(id)));

async function answersOf(id: string): Promise<string[][]> {
  const lines = (await bench.store.get(objectKeys.output(id))).toString().trim().split('\n');
  return lines.map((line) =>
    (JSON.parse(line) as { answers: { text: string }[] }).answers.map(({ text }) => text),
  );
}

/** Lets the process that stopped itself go on when its locks have long run out. */
async function thaw(marker: string, { lock, stalled }: Timings): Promise<void> {
  await sleep(lock + 2 * stalled);
  process.kill(Number(readFileSync(marker, 'utf8')), 'SIGCONT');
}

async function run(cell: Cell): Promise<{ seconds: number; bound: number }> {
  const { whom, point, ranks, frozen = false } = cell;
  const marker = join(folder, 'reached');
  const testPoint = `${point},${frozen ? 'SIGSTOP' : 'SIGKILL'},${marker}`;
  const armed = (name: string) => (whom === name ? { testPoint } : {});
  const aggregator = new Kept(['aggregator'], armed('aggregator'));
  // Takes over from one that is frozen.
  const second = frozen && whom === 'aggregator' ? new Kept(['aggregator'], armed('aggregator')) : undefined;
  const cohort = bench.cohort(ranks, `c${ranks}`, {}, (rank) => armed(`rank ${rank}`));
  try {
    const { path, ids } = await writeInput(nameOf(cell));
    let id = await submit(path, ranks, armed('producer'));
    if (whom === 'producer') {
      expect(id).toBeNull();
      id = await submit(path, ranks);
    }
    if (id === null) throw new Error('submit was killed');
    const known = undisturbed.get(ranks);
    const { lock, stalled, heartbeatExpiry, abort, join: forming } = bench.config.timings;
    // The death is noticed, everybody is out, all start and form anew; or the lock runs out and the job is found stalled.
    const bound = heartbeatExpiry + abort + forming + lock + 2 * stalled + 2 * (known?.ms ?? 10_000);
    await until(`${point} was reached`, 30_000, () => Promise.resolve(existsSync(marker)));
    if (frozen) await thaw(marker, bench.config.timings);
    await ended(id, bound).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${cohort.log()}`);
    });
    const seconds = (Date.now() - statSync(marker).mtimeMs) / 1000;
    const expected = ids.map((custom_id, i): Expected => ({ custom_id, answers: known?.answers[i] ?? [] }));
    await expectAnswered(bench, id, expected);
    expect(seconds * 1000).toBeLessThan(bound);
    // A rank's death ends its generation: everybody left, and one cohort is there again.
    // On a busy machine a heartbeat may be late once more.
    const [least, most] = whom.startsWith('rank') ? [frozen ? 1 : 2, 3] : [1, 1];
    expect(cohort.starts, cohort.log()).toBeGreaterThanOrEqual(least);
    expect(cohort.starts, cohort.log()).toBeLessThanOrEqual(most);
    await bench.ready(`c${ranks}`);
    expect(cohort.pids()).toHaveLength(ranks);
    return { seconds, bound: bound / 1000 };
  } finally {
    await aggregator.stop();
    await second?.stop();
    await cohort.stop();
  }
}

it.each([...new Set(cells.map(({ ranks }) => ranks))])('%d ranks, undisturbed', async (ranks) => {
  const aggregator = new Kept(['aggregator'], {});
  const cohort = bench.cohort(ranks);
  try {
    await bench.ready(`c${ranks}`);
    const { path } = await writeInput(`undisturbed ${ranks}`);
    const since = Date.now();
    const id = await submit(path, ranks);
    if (id === null) throw new Error('submit was killed');
    await ended(id, 30_000);
    const ms = Date.now() - since;
    const answers = await answersOf(id);
    // Mixed up, they would be seen.
    expect(new Set(answers.map((each) => JSON.stringify(each))).size).toBe(DOCUMENTS.length);
    expect(answers.flat().filter((text) => text === '').length).toBeLessThan(3);
    undisturbed.set(ranks, { answers, ms });
  } finally {
    await aggregator.stop();
    await cohort.stop();
  }
});

it.each(cells.map((cell) => [nameOf(cell), cell] as const))('%s', async (_name, cell) => {
  if (!undisturbed.has(cell.ranks)) throw new Error(`the undisturbed run of ${cell.ranks} ranks failed`);
  results.push({ ...cell, ...(await run(cell)) });
});
