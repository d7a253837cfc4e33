/**
 * Moments of the protocol at which a test may stop or kill the process that reaches them. Nothing happens unless the
 * setting `testPoint` names one; then the process says so in its log when it starts.
 */
import { writeFileSync } from 'node:fs';
import { z } from 'zod';
import type { Logger } from './logger.js';

export const testPoints = [
  // A rank, in the order of an item's run.
  'forming', // the roster is known, ranks connect to each other
  'prepare', // told to read the item
  'go', // told to run it
  'prefill', // the first layers are done
  'decode', // the first answer is made, another begins
  'complete', // leader: the answers are made, the job is still active
  'completed', // leader: the job is complete, its parent has the answers
  // The aggregator.
  'commit', // before the first outcome is written
  'outcomes', // outcomes are in S3, not yet recorded in Redis
  'recorded', // recorded, both jobs still there
  'finalise', // all outcomes are there, no file is
  'files', // the files are there, _SUCCESS is not
  'success', // _SUCCESS is there, Redis does not know
  // The producer.
  'checked', // every line is good, nothing is written
  'staged', // documents are in S3
  'items', // work items are in S3, the manifest is not
  'manifest', // the batch exists in S3, Redis does not know
  'enqueued', // the work items, of a large batch the first of them, are queued
] as const;
export type TestPoint = (typeof testPoints)[number];

/** `POINT,SIGNAL,MARKER`: who reaches POINT first, and creates the file MARKER with its pid, gets SIGNAL. */
export const testPointSetting = z
  .string()
  .regex(
    new RegExp(`^(${testPoints.join('|')}),(SIGKILL|SIGSTOP),/.+$`),
    `must be POINT,SIGKILL|SIGSTOP,/absolute/marker with POINT one of ${testPoints.join(', ')}`,
  );

let armed: { point: TestPoint; signal: NodeJS.Signals; marker: string } | undefined;

/** Once, when a process starts. */
export function armTestPoint({ testPoint }: { testPoint?: string | undefined }, logger?: Logger): void {
  if (testPoint === undefined) return;
  const [point, signal, ...marker] = testPoint.split(',') as [TestPoint, NodeJS.Signals, ...string[]];
  armed = { point, signal, marker: marker.join(',') };
  logger?.warn({ ...armed }, 'this process is under test and will be stopped');
}

/** Marks that the process is at `point`. The signal is sent before this returns. */
export function reach(point: TestPoint): void {
  if (armed?.point !== point) return;
  const { signal, marker } = armed;
  try {
    writeFileSync(marker, String(process.pid), { flag: 'wx' });
  } catch (error) {
    // Another process, or an earlier life of this one, was here first. Without the file this one is armed again.
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return;
    throw error;
  }
  process.kill(process.pid, signal);
}
