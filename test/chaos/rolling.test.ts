/** Two cohorts are restarted one after the other while they work: nothing is lost, nothing is burned, nobody is killed. */
import { expect, it } from 'vitest';
import { documentOf, full, texts, until, useBench } from './cohort-support.js';

const file = useBench(60);

it('a rolling restart under load', async () => {
  const { bench } = file;
  const cohorts = ['a', 'b'].map((name) => ({ name, cohort: bench.cohort(2, name) }));
  const first = await Promise.all(cohorts.map(({ name }) => bench.ready(name)));
  const items = Array.from({ length: 24 }, () => ({
    document: documentOf(1024, 3),
    questions: [[20, 31, 42]],
    maxTokens: 30,
  }));
  const id = await bench.submit(full(2), items);
  for (const [index, { name, cohort }] of cohorts.entries()) {
    await until(`work of ${name}`, 20_000, async () => (await bench.state(name))['state'] === 'RUNNING');
    for (const rank of [0, 1]) cohort.kill(rank, 'SIGTERM');
    await until(`another generation of ${name}`, 30_000, async () => {
      const { state, generation } = await bench.state(name);
      return (state === 'READY' || state === 'RUNNING') && generation !== first[index]?.['generation'];
    });
  }
  const answers = await Promise.all(items.map((_, item) => bench.answered(id, item, 90_000)));
  expect(new Set(answers.map((answer) => JSON.stringify(texts(answer)))).size).toBe(1);
  for (const item of items.keys()) expect((await bench.job(id, item)).attemptsMade).toBe(1);
  for (const { cohort } of cohorts) {
    expect(cohort.starts).toBe(2);
    expect(cohort.exits.map(({ code }) => code)).toEqual([0, 0]);
  }
  const served = new Set(answers.map(({ execution }) => execution.cohort));
  expect(served).toEqual(new Set(['a', 'b']));
});
