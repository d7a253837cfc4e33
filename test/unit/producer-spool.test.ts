import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { InputError } from '../../src/platform/errors.js';
import { MAX_LISTED, Problems } from '../../src/producer/problems.js';
import { Slots } from '../../src/producer/slots.js';
import { Spool } from '../../src/producer/spool.js';

test('a spool gives back what was put there, also by many at once, and has no name', async () => {
  const spool = await Spool.open();
  try {
    const mine = (await readdir(tmpdir())).filter((name) => name.startsWith(`longhaul-${process.pid}-`));
    expect(mine).toEqual([]);
    const values = Array.from({ length: 200 }, (_, i) => ({ i, text: 'ü'.repeat(i) }));
    const places = await Promise.all(values.map((value) => spool.appendValue(value)));
    expect(await Promise.all(places.map((place) => spool.readValue(place)))).toEqual(values);
    const parts: Buffer[] = [];
    for await (const part of spool.stream(1_000)) parts.push(part);
    expect(parts.every((part, i) => part.length === 1_000 || i === parts.length - 1)).toBe(true);
    const whole = Buffer.concat(parts);
    expect(whole.length).toBe(spool.length);
    expect(whole.toString()).toBe(values.map((value) => JSON.stringify(value)).join(''));
    await expect(spool.read({ start: spool.length - 1, length: 2 })).rejects.toThrow(/ends at/);
  } finally {
    await spool.close();
  }
});

test('slots let so many in at a time, in order, and a failure frees its place', async () => {
  const slots = new Slots(2);
  let inside = 0;
  let most = 0;
  const order: number[] = [];
  const work = (i: number) =>
    slots.use(async () => {
      order.push(i);
      most = Math.max(most, ++inside);
      await sleep(2);
      inside -= 1;
      if (i % 3 === 0) throw new Error(`${i}`);
      return i;
    });
  const results = await Promise.allSettled(Array.from({ length: 12 }, (_, i) => work(i)));
  expect(most).toBe(2);
  expect(order).toEqual(Array.from({ length: 12 }, (_, i) => i));
  expect(results.filter(({ status }) => status === 'rejected')).toHaveLength(4);
});

test('of many problems the first by line are kept, whatever their order, and all are counted', () => {
  const problems = new Problems();
  problems.throwIfAny('file');
  const lines = Array.from({ length: 5_000 }, (_, i) => ((i * 2_003) % 5_000) + 1);
  for (const line of lines) problems.add({ line, field: 'f', message: 'm' });
  expect(problems.total).toBe(5_000);
  expect(problems.first().map(({ line }) => line)).toEqual(
    Array.from({ length: MAX_LISTED }, (_, i) => i + 1),
  );
  expect(() => problems.throwIfAny('file')).toThrow(InputError);
  expect(() => problems.throwIfAny('file')).toThrow(/5000 problems, .*and 4900 more/s);
});
