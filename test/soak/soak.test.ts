/** Thousands of small documents on three cohorts while processes are killed at random: nothing lost, nothing twice, memory flat. */
import { spawn, type ChildProcess } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { outcome, success } from '../../src/contracts/outcome.js';
import { toEnvironment } from '../../src/platform/config.js';
import { objectKeys } from '../../src/platform/keys.js';
import {
  Bench,
  documentOf,
  full,
  openServices,
  until,
  type Services,
  type TestCohort,
} from '../chaos/cohort-support.js';
import { watch } from '../support/leaks.js';
import { endProcess, trackLeaks } from '../support/services.js';
import { growthOf, residentMegabytes, type Series } from './memory.js';
import { memoryCurves, report } from './report.js';

trackLeaks();

const minutes = Number(process.env['SOAK_MINUTES'] || 30);
const seed = Number(process.env['SOAK_SEED'] || Math.floor(Math.random() * 2 ** 31));
/** Shorter runs have no time to warm up. */
const JUDGED_MINUTES = 10;
const BATCH = 50;
const KINDS = 12;
const BACKLOG = 4;
const SPARED = 'spared';

/** The aggregator and who starts it anew. */
class Aggregator {
  child: ChildProcess;
  private stopping = false;

  constructor(private readonly services: Services) {
    this.child = this.launch();
  }

  private launch(): ChildProcess {
    const { redis, s3 } = this.services;
    const settings = {
      redisUrl: redis.url,
      profile: 'fast' as const,
      logLevel: 'silent' as const,
      // What is finished leaves Redis, so that its memory shows leaks.
      keepFinishedBatches: 5,
      ...s3.settings,
    };
    const child = watch(
      spawn(process.execPath, [resolve('bin/longhaul.js'), 'aggregator'], {
        stdio: 'ignore',
        env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...toEnvironment(settings) },
      }),
    );
    child.once('exit', () => {
      if (!this.stopping) this.child = this.launch();
    });
    return child;
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await endProcess(this.child);
  }
}

function randoms(start: number): () => number {
  let state = start >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

it(
  `${minutes} minutes of small documents and random kills`,
  async () => {
    const log = (text: string) =>
      process.stdout.write(`${new Date().toISOString().slice(11, 19)} soak: ${text}\n`);
    const random = randoms(seed);
    const services = await openServices(4);
    const bench = new Bench(services);
    const aggregator = new Aggregator(services);
    const cohorts = new Map<string, TestCohort>(
      [SPARED, 'first', 'second'].map((name) => [name, bench.cohort(2, name)]),
    );
    const begin = Date.now();
    const end = begin + minutes * 60_000;
    const series = new Map<string, Series>();
    const kills: Record<string, number> = { rank: 0, leader: 0, aggregator: 0 };
    const recoveries: number[] = [];
    const recovering: Promise<void>[] = [];
    const batches: string[] = [];
    const ended = new Set<string>();
    const kinds = Array.from({ length: KINDS }, (_, kind) => ({
      document: documentOf(128 + 32 * kind, kind + 1),
      questions: [[20 + kind, 31, 42]],
      maxTokens: 4,
    }));
    /** The answer of each kind: the first one decides, all later ones must agree. */
    const answers = new Map<number, string>();
    let stopping = false;
    let failure: unknown;

    const sample = async (): Promise<void> => {
      const minute = (Date.now() - begin) / 60_000;
      const add = (name: string, megabytes: number | undefined) => {
        if (megabytes === undefined) return;
        const one = series.get(name) ?? { name, points: [] };
        series.set(name, one);
        one.points.push({ minute, megabytes });
      };
      for (const [name, cohort] of cohorts)
        for (const { rank, child } of cohort.seats)
          add(`${name} rank ${rank}`, residentMegabytes(child.pid ?? -1));
      add('aggregator', residentMegabytes(aggregator.child.pid ?? -1));
      const used = /^used_memory:(\d+)/m.exec(await bench.redis.info('memory'))?.[1];
      add('Redis (used_memory)', Number(used) / 2 ** 20);
    };

    const killOne = async (): Promise<void> => {
      const pick = Math.floor(random() * 5);
      if (pick === 4) {
        kills['aggregator'] = (kills['aggregator'] ?? 0) + 1;
        aggregator.child.kill('SIGKILL');
        return;
      }
      const name = pick % 2 === 0 ? 'first' : 'second';
      const rank = pick < 2 ? 0 : 1;
      const cohort = cohorts.get(name);
      const before = await bench.state(name);
      if (cohort === undefined || before['state'] !== 'READY') return;
      const what = rank === 0 ? 'leader' : 'rank';
      kills[what] = (kills[what] ?? 0) + 1;
      const since = Date.now();
      cohort.kill(rank);
      recovering.push(
        until(`cohort ${name} READY again`, 120_000, async () => {
          const now = await bench.state(name);
          return now['state'] === 'READY' && now['generation'] !== before['generation'];
        }).then(() => void recoveries.push((Date.now() - since) / 1000)),
      );
    };

    const every = async (ms: () => number, work: () => Promise<void>): Promise<void> => {
      try {
        while (!stopping && Date.now() < end) {
          await sleep(Math.min(ms(), Math.max(0, end - Date.now())));
          if (Date.now() < end) await work();
        }
      } catch (error) {
        failure ??= error;
      }
    };

    const check = async (id: string): Promise<void> => {
      const { counts } = success.parse(
        JSON.parse((await bench.store.get(objectKeys.success(id))).toString()),
      );
      expect(counts).toEqual({ total: BATCH, answered: BATCH, failed: 0, cancelled: 0, expired: 0 });
      let outcomes = 0;
      for await (const _ of bench.store.list(objectKeys.outcomes(id))) outcomes++;
      expect(outcomes).toBe(BATCH);
      const lines = (await bench.store.get(objectKeys.output(id))).toString().trim().split('\n');
      const found = lines.map((line) => outcome.parse(JSON.parse(line)));
      expect(found.map(({ custom_id }) => custom_id)).toEqual(
        Array.from({ length: BATCH }, (_, i) => `request ${i}`),
      );
      for (const { ordinal, answers: given } of found) {
        const text = given[0]?.text ?? '';
        const known = answers.get(ordinal % KINDS) ?? text;
        answers.set(ordinal % KINDS, known);
        expect(text, `${id}, request ${ordinal}`).toBe(known);
      }
    };

    const finishEnded = async (): Promise<void> => {
      for (const id of batches) {
        if (ended.has(id) || (await bench.store.modifiedAt(objectKeys.success(id))) === undefined) continue;
        await check(id);
        ended.add(id);
      }
    };

    log(`seed ${seed}, ${minutes} minutes, three cohorts of two ranks`);
    try {
      await Promise.all([...cohorts.keys()].map((name) => bench.ready(name, 60_000)));
      const beside = [
        every(() => 2_000, sample),
        every(() => 5_000 + random() * 10_000, killOne),
        every(
          () => 20_000,
          () => {
            const done = ended.size * BATCH;
            const shown = Object.entries(kills).map(([what, times]) => `${what} ${times}`);
            const rate = done / ((Date.now() - begin) / 60_000);
            log(
              `${done} documents (${rate.toFixed(0)} a minute), ${recoveries.length} recoveries; killed: ${shown.join(', ')}`,
            );
            return Promise.resolve();
          },
        ),
      ];
      while (Date.now() < end && failure === undefined) {
        while (batches.length - ended.size < BACKLOG && Date.now() < end) {
          const items = Array.from({ length: BATCH }, (_, i) => {
            const kind = kinds[i % KINDS];
            if (kind === undefined) throw new Error(`no kind ${i % KINDS}`);
            // Each its own work item: a document of the same ids would be the same object, never the same item.
            return kind;
          });
          batches.push(await bench.submit(full(2), items));
        }
        await sleep(500);
        await finishEnded();
      }
      await Promise.all(beside);
      const submitted = (Date.now() - begin) / 60_000;
      log(`time is over; ${batches.length - ended.size} batches to go`);
      await Promise.all(recovering);
      await until('the last batches', 300_000, async () => {
        await finishEnded();
        return ended.size === batches.length;
      });
      if (failure !== undefined) throw failure as Error;
      for (const queue of [bench.documents, bench.outcomes])
        await until(`${queue.name} empty`, 60_000, async () => {
          const counts = await queue.getJobCounts(
            'active',
            'waiting',
            'delayed',
            'prioritized',
            'waiting-children',
          );
          return Object.values(counts).every((n) => n === 0);
        });
      const curves = [...series.values()];
      const documents = ended.size * BATCH;
      const soak = { minutes: submitted, documents, batches: ended.size, kills, recoveries, series: curves };
      const folder = process.env['SOAK_OUT'] || 'docs/benchmarks';
      await writeFile(`${folder}/soak.svg`, memoryCurves(curves));
      await writeFile(`${folder}/soak.md`, report(soak));
      log(`${documents} documents, ${recoveries.length} recoveries; written: ${folder}/soak.md and soak.svg`);
      expect(documents).toBeGreaterThan(0);
      if (minutes >= JUDGED_MINUTES)
        for (const one of curves.filter(({ name }) => name.startsWith(SPARED) || name.startsWith('Redis')))
          expect(growthOf(one), one.name).toMatchObject({ flat: true });
    } finally {
      stopping = true;
      await aggregator.stop();
      await bench.close();
      await services.close();
    }
  },
  (minutes + 15) * 60_000,
);
