import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Lease } from '../../src/gpu-worker/lease.js';

const lock = { lockMs: 3_000, everyMs: 750, marginMs: 750 };

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

/** `pause` sleeps on node:timers/promises, which fake timers do not reach: these tests drive `confirm`. */
function lease(extend: () => Promise<number>) {
  const lost: string[] = [];
  const made = new Lease({ extend, ...lock, onLost: (error) => lost.push(error.message) });
  return { made, lost };
}

describe('a lease', () => {
  it('ends lock minus margin after the moment BEFORE the extension was sent', async () => {
    const { made } = lease(() => new Promise((resolve) => setTimeout(resolve, 1_000, 1)));
    const started = made.start();
    await vi.advanceTimersByTimeAsync(1_000);
    await started;
    expect(made.left()).toBe(3_000 - 750 - 1_000);
    await made.stop();
  });

  it('is lost at once when the reply is 0', async () => {
    const { made, lost } = lease(() => Promise.resolve(0));
    await expect(made.start()).rejects.toMatchObject({ code: 'LEASE_LOST' });
    expect(lost).toHaveLength(1);
    expect(made.left()).toBe(0);
    await made.stop();
  });

  it('is lost without any event when no reply comes', async () => {
    let reply: Promise<number> = Promise.resolve(1);
    const { made, lost } = lease(() => reply);
    await made.start();
    reply = new Promise(() => undefined);
    await vi.advanceTimersByTimeAsync(2_249);
    expect(lost).toEqual([]);
    await vi.advanceTimersByTimeAsync(2);
    expect(lost).toEqual(['lease lost: no extension of the lock was confirmed in time']);
    expect(() => {
      made.check();
    }).toThrow('lease lost');
    await made.stop();
  });

  it('lives on over errors while there is time', async () => {
    let fail = false;
    const { made, lost } = lease(() => (fail ? Promise.reject(new Error('away')) : Promise.resolve(1)));
    await made.start();
    await vi.advanceTimersByTimeAsync(1_000);
    fail = true;
    await expect(made.confirm()).rejects.toMatchObject({ code: 'LEASE_LOST' });
    expect(lost).toHaveLength(1);
    await made.stop();
  });

  it('finds out by itself after the process was stopped past its end', async () => {
    const { made } = lease(() => Promise.resolve(1));
    await made.start();
    vi.setSystemTime(Date.now() + 10_000); // timers have not fired yet
    vi.advanceTimersByTime(0);
    const now = performance.now();
    vi.spyOn(performance, 'now').mockReturnValue(now + 10_000);
    expect(() => {
      made.check();
    }).toThrow('ran out');
    await made.stop();
  });

  it('says nothing any more once it is stopped', async () => {
    const { made, lost } = lease(() => Promise.resolve(1));
    await made.start();
    await made.stop();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(lost).toEqual([]);
  });
});
