/**
 * The whole stack as a person runs it, with the demo model: real text in, right answers out, while a follower,
 * the leader and the aggregator are killed in the middle of the batch.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { outcome, success } from '../../src/contracts/outcome.js';
import { getStatus, hasEnded } from '../../src/batch/status.js';
import { withBatchesOf, type CommandContext } from '../../src/cli/context.js';
import { localStatus } from '../../src/local/status.js';
import { loadConfig } from '../../src/platform/config.js';
import { tempDir, trackLeaks } from '../support/services.js';

trackLeaks();
let work: string;
beforeEach(async () => {
  work = await tempDir('longhaul-stack-');
});
afterEach(async () => {
  await longhaul('local', 'down');
  await rm(work, { recursive: true, force: true });
});

async function longhaul(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const command = [resolve('bin/longhaul.js'), '--profile', 'fast', ...args];
  const child = spawn(process.execPath, command, { cwd: work, stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout.on('data', (text: Buffer) => (out += text.toString()));
  child.stderr.on('data', (text: Buffer) => (err += text.toString()));
  const code = await new Promise<number | null>((done) => child.once('close', done));
  return { code, out, err };
}

async function pidOf(name: string): Promise<number> {
  const { processes } = await localStatus(join(work, '.longhaul'));
  const pid = processes.find((p) => p.name === name)?.pid;
  if (pid === undefined) throw new Error(`${name} does not run`);
  return pid;
}

/**
 * Waits until an item is in its prefill at an epoch that was not seen before. Asked in this process: a command takes
 * longer to start than a prefill lasts.
 */
async function prefillBegins(context: CommandContext, batch: string, epochs: Set<string>): Promise<void> {
  for (;;) {
    const { active, status } = await getStatus(context, batch);
    const item = active.find((a) => a.phase === 'prefill' && !epochs.has(`${a.item}.${a.epoch}`));
    if (item !== undefined) {
      epochs.add(`${item.item}.${item.epoch}`);
      return;
    }
    if (hasEnded({ status })) throw new Error('the batch ended before all were killed');
    await sleep(20);
  }
}

it('answers are right and each there once, whoever is killed in the middle', async () => {
  const prose = readFileSync(resolve('demo/texts/moby-dick.txt'), 'utf8').replace(/\s+/g, ' ');
  const keys = ['582914', '7730125', '64129907', '915562', '3310846', '20974415'];
  const lines = keys.map((key, i) => {
    const text = prose.slice(i * 40_000, i * 40_000 + 24_000);
    const at = text.indexOf('. ', 4_000 + i * 2_500) + 2;
    const fact = `The pass key is ${key}. Remember it. The pass key is ${key}. `;
    return JSON.stringify({
      custom_id: `key-${i}`,
      document: text.slice(0, at) + fact + text.slice(at),
      question: 'Now, give me the exact number of the pass key. The pass key is',
      max_tokens: 16,
    });
  });
  await writeFile(join(work, 'requests.jsonl'), lines.join('\n'));
  const up = await longhaul(
    'local',
    'up',
    '--ranks',
    '3',
    '--threads',
    '1',
    '--model',
    resolve('models/demo'),
  );
  expect(up.code, up.err).toBe(0);
  const submitted = await longhaul('submit', 'requests.jsonl', '--method', 'apb', '--ranks', '3', '--json');
  const { id } = JSON.parse(submitted.out) as { id: string };

  const epochs = new Set<string>();
  const flags = { profile: 'fast', logLevel: 'silent' } as const;
  await withBatchesOf(loadConfig({ flags, environment: {}, directory: work }), async (context) => {
    for (const victim of ['rank-2', 'rank-0', 'aggregator']) {
      await prefillBegins(context, id, epochs);
      process.kill(await pidOf(victim), 'SIGKILL');
    }
  });

  const done = await longhaul(
    'submit',
    'requests.jsonl',
    '--method',
    'apb',
    '--ranks',
    '3',
    '--out',
    'results',
  );
  expect(done.code, done.err).toBe(0);
  const output = readFileSync(join(work, 'results/output.jsonl'), 'utf8').trim().split('\n');
  const outcomes = output.map((line) => outcome.parse(JSON.parse(line)));
  expect(outcomes.map((o) => [o.custom_id, o.answers[0]?.text])).toEqual(
    keys.map((key, i) => [`key-${i}`, `${key}.`]),
  );
  expect(readFileSync(join(work, 'results/error.jsonl'), 'utf8')).toBe('');
  const { counts } = success.parse(JSON.parse(readFileSync(join(work, 'results/_SUCCESS'), 'utf8')));
  expect(counts).toEqual({ total: 6, answered: 6, failed: 0, cancelled: 0, expired: 0 });
  // Not everything went well the first time: the kills were felt.
  expect(Math.max(...outcomes.map((o) => o.execution?.generation ?? 0))).toBeGreaterThanOrEqual(3);
});
