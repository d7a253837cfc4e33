import { describe, expect, it } from 'vitest';
import type { WorkItem } from '../../src/contracts/work-item.js';
import type { EngineLike } from '../../src/gpu-worker/engine-like.js';
import type { PreparedItem } from '../../src/gpu-worker/prepare-item.js';
import { runItem, type RunContext } from '../../src/gpu-worker/run-item.js';

const tokens = (...ids: number[]) => Uint32Array.from(ids);

/** Two groups: questions 0 and 1 share a prefill, question 2 has its own. */
function prepared(): PreparedItem {
  const question = (at: number) => ({
    request: 0,
    question: at,
    query: tokens(at + 1),
    maxTokens: 4,
    temperature: 0,
    seed: 0,
  });
  const layout = { method: 'full', ranks: 1, documentTokens: 3, queryTokens: 1, passingLength: 0 } as const;
  const item = {
    options: { select: null },
    requests: [{ questions: [{}, {}, {}] }],
  } as unknown as WorkItem;
  return {
    item,
    block: tokens(7, 8, 9),
    blocks: [3],
    groups: [
      { layout, head: tokens(), query: tokens(1, 2), questions: [question(0), question(1)] },
      { layout, head: tokens(), query: tokens(3), questions: [question(2)] },
    ],
  };
}

/** Records calls. A stop reaches only the call that is pending, as with the real engine. */
class FakeEngine implements EngineLike {
  readonly calls: string[] = [];
  onCall: (name: string) => void = () => undefined;
  private pending: (() => void) | undefined;

  private async call<T>(name: string, value: T): Promise<T> {
    this.calls.push(name);
    let stopped = false;
    this.pending = () => (stopped = true);
    this.onCall(name);
    await new Promise((resolve) => setTimeout(resolve, 1));
    this.pending = undefined;
    if (stopped) throw Object.assign(new Error('stopped'), { code: 'ENGINE_STOPPED' });
    return value;
  }
  listen = () => Promise.resolve(0);
  connect = () => Promise.resolve('tcp');
  prefill: EngineLike['prefill'] = ({ query }) =>
    this.call(`prefill ${query.join()}`, { passedBytes: { sent: 6, received: 2 } });
  decode: EngineLike['decode'] = ({ query }) =>
    this.call(`decode ${query.join()}`, { tokens: query, finish: 'length' as const });
  requestStop = () => this.pending?.();
  abort = () => undefined;
  release = () => Promise.resolve();
  dispose = () => Promise.resolve();
}

function context(engine: EngineLike, more: Partial<RunContext> = {}): RunContext {
  const never = new AbortController().signal;
  return { engine, stop: [0], collectiveMs: 1000, stopSignal: never, abortSignal: never, ...more };
}

describe('the run of an item', () => {
  it('prefills once per group and decodes every question, in order', async () => {
    const engine = new FakeEngine();
    const progress: string[] = [];
    const output = await runItem(
      context(engine, { onProgress: (p) => progress.push(`${p.phase} ${p.done}/${p.total}`) }),
      prepared(),
    );
    expect(engine.calls).toEqual(['prefill 1,2', 'decode 1', 'decode 2', 'prefill 3', 'decode 3']);
    expect(output.decoded.map((d) => [...d.tokens])).toEqual([[1], [2], [3]]);
    expect(progress).toEqual(['decode 0/3', 'decode 1/3', 'decode 2/3']);
  });

  it('a stop reaches the call in progress', async () => {
    const engine = new FakeEngine();
    const stop = new AbortController();
    engine.onCall = (name) => {
      if (name === 'decode 1') stop.abort();
    };
    await expect(runItem(context(engine, { stopSignal: stop.signal }), prepared())).rejects.toMatchObject({
      code: 'ENGINE_STOPPED',
    });
    expect(engine.calls).toEqual(['prefill 1,2', 'decode 1']);
  });

  it('a stop between two calls still makes the next call, where the other ranks wait', async () => {
    const engine = new FakeEngine();
    const stop = new AbortController();
    stop.abort();
    await expect(runItem(context(engine, { stopSignal: stop.signal }), prepared())).rejects.toMatchObject({
      code: 'ENGINE_STOPPED',
    });
    expect(engine.calls).toEqual(['prefill 1,2']);
  });

  it('makes no further call once the communicator is given up', async () => {
    const engine = new FakeEngine();
    const abort = new AbortController();
    engine.onCall = () => {
      abort.abort(new Error('given up'));
    };
    await expect(runItem(context(engine, { abortSignal: abort.signal }), prepared())).rejects.toThrow(
      'given up',
    );
    expect(engine.calls).toEqual(['prefill 1,2']);
  });
});
