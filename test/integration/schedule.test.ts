/** Schedules from the command line to digest and webhook, with two scheduler processes at once. */
import { cp, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { scheduleCommand } from '../../src/cli/schedule.js';
import { workItem } from '../../src/contracts/work-item.js';
import { objectKeys, scheduleKeys } from '../../src/platform/keys.js';
import type { RunRecord } from '../../src/producer/schedule/history.js';
import { readSchedule, setPaused } from '../../src/producer/schedule/store.js';
import type { Config } from '../../src/platform/config.js';
import { watch } from '../support/leaks.js';
import { endProcess, tempDir } from '../support/services.js';
import { makeResult, spawnCli, useBench } from './batch-support.js';
import { runCommand } from './run-command.js';

const own = useBench();
let directory: string;
let modelDir: string;
let prompt: string;
beforeAll(async () => {
  directory = await tempDir('longhaul-schedule-');
  modelDir = join(directory, 'model');
  prompt = join(directory, 'prompt.txt');
  await cp(fileURLToPath(new URL('../fixtures/tiny-model', import.meta.url)), modelDir, { recursive: true });
  await writeFile(join(modelDir, 'model.safetensors'), 'weights');
  await writeFile(prompt, 'What colour is the sky?');
});
afterAll(() => rm(directory, { recursive: true, force: true }));

test(
  'schedules run once with two schedulers, over what is new or changed, and tell of failures',
  {
    timeout: 120_000,
  },
  async () => {
    const { bench, s3 } = own;
    const { store } = bench.deps;
    const config: Config = { ...bench.config, modelDir, logLevel: 'info' };
    const cli = async (...args: string[]) => (await runCommand(config, scheduleCommand(), ...args)).stdout;
    const history = async (name: string) => JSON.parse(await cli('history', name, '--json')) as RunRecord[];
    const ended = (name: string, run: string) =>
      bench.until(
        async () => (await history(name)).find((one) => one.run === run && one.end !== null),
        60_000,
        async () => JSON.stringify(await history(name)) + log,
      );
    const inputs = `s3://${s3.bucket}/inputs/`;
    const clock = ['--cron', '0 6 1 1 *', '--tz', 'Europe/Berlin', '--prompt', prompt];
    const put = (name: string, text: string) => store.put(`inputs/${name}`, [Buffer.from(text)]);

    const calls: { url: string; body: string }[] = [];
    const server = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk: Buffer) => (body += chunk.toString()));
      request.on('end', () => {
        // One that listens and says nothing.
        if (request.url === '/silent') return;
        calls.push({ url: request.url ?? '', body });
        response.writeHead(calls.length === 1 ? 500 : 204).end();
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const webhook = `${origin}/path-is-secret`;

    bench.aggregator();
    bench.answering(async ({ batch_id, item }) =>
      makeResult(workItem.parse(JSON.parse((await store.get(objectKeys.item(batch_id, item))).toString()))),
    );
    let log = '';
    const schedulers = [1, 2].map(() => watch(spawnCli(config, ['scheduler'])));
    for (const { stderr } of schedulers) stderr?.on('data', (text: Buffer) => (log += text.toString()));
    try {
      // Its webhook takes its time meanwhile.
      const nowhere = ['--input', 's3://nowhere-at-all/in/'];
      await cli('add', 'silent', ...clock, ...nowhere, '--webhook', `${origin}/silent`);
      await cli('run-now', 'silent');

      // Two documents that can be answered and one that cannot be taken.
      await Promise.all([
        put('a.txt', 'The sky is blue.'),
        put('b.md', '# The sky is grey.'),
        put('empty.txt', ''),
      ]);
      await cli('add', 'nightly', ...clock, '--input', inputs);
      await expect(cli('add', 'nightly', ...clock, '--input', inputs)).rejects.toThrow(/already/);
      const first = (await cli('run-now', 'nightly')).trim();
      const one = await ended('nightly', first);
      expect(one).toMatchObject({ status: 'succeeded', cause: 'manual', end: { documents: 3, answered: 2 } });
      const digest = (await store.get(`digests/nightly/${first}.md`)).toString();
      expect(digest).toContain('## `a.txt`\n\n> answer 0');
      expect(digest).toMatch(/## `empty.txt`\n\n> refused: .*is empty/);
      const lines = (await store.get(`digests/nightly/${first}.jsonl`)).toString().trim().split('\n');
      expect(lines.map((line) => (JSON.parse(line) as { status: string }).status)).toEqual([
        'answered',
        'answered',
        'refused',
      ]);

      // Next: one changed, one new, and the one that had no answer.
      await Promise.all([
        put('a.txt', 'The sky is red.'),
        put('c.txt', 'No sky.'),
        put('empty.txt', 'Now it is not.'),
      ]);
      const second = (await cli('run-now', 'nightly')).trim();
      expect(second).not.toBe(first);
      const two = await ended('nightly', second);
      expect(two.end).toMatchObject({ status: 'succeeded', documents: 3, answered: 3, unanswered: [] });
      const again = (await store.get(`digests/nightly/${second}.md`)).toString();
      expect(again.match(/^## .*$/gm)).toEqual(['## `a.txt`', '## `c.txt`', '## `empty.txt`']);

      // Five runs were missed while nobody ran: one catches up, by two schedulers, and another pass adds none.
      const stored = JSON.parse((await store.get(scheduleKeys.schedule('nightly'))).toString()) as object;
      const since = Math.floor(Date.now() / 1000) - 6 * 31_622_400;
      const missed = { ...stored, name: 'missed', active_since: since, all: true };
      await store.create(scheduleKeys.schedule('missed'), JSON.stringify(missed));
      const caught = await bench.until(async () => (await history('missed'))[0]?.run, 20_000);
      expect((await ended('missed', caught)).end).toMatchObject({ documents: 4, answered: 4 });
      await new Promise((resolve) => setTimeout(resolve, 2 * config.timings.reconcile + 500));
      expect((await history('missed')).map(({ run, cause }) => [run, cause])).toEqual([[caught, 'cron']]);
      expect(caught).toMatch(/^\d{4}0101T050000Z$/);

      // A bucket that is not there.
      await cli('add', 'broken', ...clock, ...nowhere, '--webhook', webhook);
      expect(await cli('list')).toContain('broken');
      expect(await cli('list', '--json')).not.toContain('path-is-secret');
      const failing = (await cli('run-now', 'broken')).trim();
      const told = await bench.until(
        async () => (await history('broken')).find((r) => r.webhook !== null),
        20_000,
      );
      expect(told).toMatchObject({
        run: failing,
        status: 'failed',
        webhook: { delivered: true, attempts: 2 },
      });
      expect(told.end?.error?.message).toContain('nowhere-at-all');
      expect(calls.map(({ url }) => url)).toEqual(['/path-is-secret', '/path-is-secret']);
      expect(JSON.parse(calls[1]?.body ?? '')).toMatchObject({
        schedule: 'broken',
        run: failing,
        status: 'failed',
      });

      const silent = await bench.until(
        async () => (await history('silent')).find((r) => r.webhook !== null),
        20_000,
      );
      expect(silent.webhook).toEqual({ delivered: false, attempts: 3, detail: 'no answer within 1000 ms' });
      expect(await cli('history', 'silent')).toContain('webhook no answer within 1000 ms');

      // Somebody else's change comes between the reading and the writing of a pause.
      const read = store.getTagged.bind(store);
      const spy = vi.spyOn(store, 'getTagged').mockImplementationOnce(async (key, signal) => {
        const found = await read(key, signal);
        const theirs = { ...(JSON.parse(found.bytes.toString()) as object), max_tokens: 9 };
        await store.put(key, [Buffer.from(JSON.stringify(theirs))]);
        return found;
      });
      expect(await setPaused(bench.deps, 'missed', true)).toMatchObject({ paused: true, max_tokens: 9 });
      expect(spy).toHaveBeenCalledTimes(2);
      spy.mockRestore();
      expect(await readSchedule(store, 'missed')).toMatchObject({ paused: true, max_tokens: 9 });
      await cli('resume', 'missed');
      await cli('pause', 'missed');
      expect(await cli('list')).toMatch(/^missed .* paused$/m);
      await cli('remove', 'missed');
      await expect(history('missed')).rejects.toThrow(/there is no schedule missed/);
      await expect(cli('pause', 'missed')).rejects.toThrow(/longhaul schedule list/);

      // What was submitted, was submitted once.
      const batches: string[] = [];
      for await (const id of store.listFolders(objectKeys.batches())) batches.push(id);
      expect(batches).toHaveLength(3);
      expect(log).toContain('webhook called');
      expect(log).not.toContain('path-is-secret');
    } finally {
      await Promise.all(schedulers.map((child) => endProcess(child)));
      server.close();
    }
    expect(schedulers.map(({ exitCode }) => exitCode)).toEqual([0, 0]);
  },
);
