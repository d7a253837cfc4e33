import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Engine, planLayout, type Progress } from '../../src/gpu-worker/engine/engine.js';
import {
  connect,
  connected,
  failure,
  prefillOf,
  slowDocument,
  smallModel,
  temporaryFolder,
  writeSlowModel,
} from './engine-fixture.js';

const folder = temporaryFolder();
beforeAll(() => writeSlowModel(folder.path));
afterAll(folder.dispose);

async function withEngines(
  modelDir: string,
  ranks: number,
  body: (engines: Engine[]) => Promise<void>,
): Promise<void> {
  const engines = await connected(modelDir, ranks);
  try {
    await body(engines);
  } finally {
    await Promise.all(engines.map((engine) => engine.dispose()));
  }
}

/** The prefills of all ranks, and a promise of rank 0's first progress. */
function slowPrefill(engines: Engine[], signal?: AbortSignal) {
  let begin: () => void;
  const begun = new Promise<void>((resolve) => (begin = resolve));
  const results = engines.map((engine, rank) =>
    failure(
      engine.prefill({ ...prefillOf(rank, engines.length, slowDocument), onProgress: () => begin(), signal }),
    ),
  );
  return { begun, results: Promise.all(results) };
}

const question = { query: new Uint32Array([3, 4, 5]), maxNewTokens: 4, eos: [] };

test('a model tells what it is', async () => {
  const engine = Engine.create();
  const info = await engine.load({ modelDir: smallModel, backend: 'auto', threads: 2, isa: 'portable' });
  expect(info).toMatchObject({
    architecture: 'LlamaForCausalLM',
    hasRetainingHeads: true,
    backend: 'cpu (portable, 2 threads)',
  });
  expect(info.heads.query % info.heads.keyValue).toBe(0);
  await engine.dispose();
});

test('rates are measured in a moment, in seconds per row and per pair over all layers', async () => {
  const engine = Engine.create();
  await expect(engine.measureRates()).rejects.toMatchObject({ code: 'ENGINE_INVALID_ARGUMENT' });
  const measure = async (modelDir: string) => {
    await engine.load({ modelDir, backend: 'cpu', threads: 1 });
    return engine.measureRates();
  };
  const small = await measure(smallModel); // 3 layers, 128 wide, 4 heads of 32
  expect(Object.keys(small).sort()).toEqual(['pairSeconds', 'rowSeconds']);
  // Roughly 0.6 MFLOP a row and 1.5 KFLOP a pair: between a slow core's and no core's speed.
  expect(small.rowSeconds).toBeGreaterThan(1e-7);
  expect(small.rowSeconds).toBeLessThan(1e-2);
  expect(small.pairSeconds).toBeGreaterThan(1e-10);
  expect(small.pairSeconds).toBeLessThan(1e-5);
  // 133 times the layers, a little narrower.
  const deep = await measure(folder.path);
  expect(deep.rowSeconds).toBeGreaterThan(10 * small.rowSeconds);
  expect(deep.pairSeconds).toBeGreaterThan(10 * small.pairSeconds);
  await engine.dispose();
});

test('calls out of order, bad options and bad files are typed errors, and the engine lives on', async () => {
  const engine = Engine.create();
  const load = { modelDir: smallModel, backend: 'cpu', threads: 1 } as const;
  const refusals: [Promise<unknown>, string, string][] = [
    [engine.prefill(prefillOf(0, 1, 10)), 'ENGINE_INVALID_ARGUMENT', 'not connected'],
    [
      engine.connect({ rank: 0, peers: ['a:1'], secret: '', deadlineMs: 1 }),
      'ENGINE_INVALID_ARGUMENT',
      'call load first',
    ],
    [engine.load({ ...load, backend: 'cuda' }), 'ENGINE_UNSUPPORTED', "backend is 'cuda'"],
    [engine.load({ ...load, backend: 'tpu' as 'cpu' }), 'ENGINE_INVALID_ARGUMENT', "'tpu'"],
    [engine.load({ ...load, threads: 0 }), 'ENGINE_INVALID_ARGUMENT', 'threads is 0'],
    [engine.load({ ...load, isa: 'sse' as 'avx2' }), 'ENGINE_INVALID_ARGUMENT', "'sse'"],
    [engine.load({ ...load, modelDir: '/nowhere' }), 'ENGINE_CONFIG', '/nowhere'],
    [engine.trace(), 'ENGINE_INVALID_ARGUMENT', 'trace: true'],
    [engine.listen('203.0.113.1'), 'COMM_PROTOCOL', '203.0.113.1'],
    [engine.listen('127.0.0.1', 70_000), 'ENGINE_INVALID_ARGUMENT', '70000'],
  ];
  for (const [promise, code, message] of refusals) {
    const error = await failure(promise);
    expect([error.code, error.message]).toEqual([code, expect.stringContaining(message)]);
  }
  await engine.load(load);
  await connect([engine]);
  for (const [options, message] of [
    [{ ...prefillOf(0, 1, 10), block: [1, 2] as unknown as Uint32Array }, 'block must be a Uint32Array'],
    [{ ...prefillOf(0, 1, 10), selectSeed: -1 }, 'selectSeed'],
    [prefillOf(0, 2, 10), 'communicator joins 1'],
    [{ ...prefillOf(0, 1, 10), onProgress: 7 as unknown as () => void }, 'onProgress must be a function'],
  ] as const) {
    expect(await failure(engine.prefill(options))).toMatchObject({
      code: 'ENGINE_INVALID_ARGUMENT',
      message: expect.stringContaining(message) as unknown,
    });
  }
  await engine.prefill(prefillOf(0, 1, 10));
  await engine.dispose();
});

test('a truncated checkpoint names file and code', async () => {
  const broken = temporaryFolder();
  writeSlowModel(broken.path, 1);
  writeFileSync(join(broken.path, 'model.safetensors'), 'short');
  const engine = Engine.create();
  const error = await failure(engine.load({ modelDir: broken.path, backend: 'cpu', threads: 1 }));
  expect([error.code, error.message]).toEqual([
    'ENGINE_SAFETENSORS',
    expect.stringContaining('model.safetensors'),
  ]);
  await engine.dispose();
  broken.dispose();
});

test('two ranks of one process answer alike, again and again, and report progress in order', async () => {
  await withEngines(smallModel, 2, async (engines) => {
    const seen: Progress[] = [];
    const onProgress = (progress: Progress) => seen.push(progress);
    await Promise.all(
      engines.map((e, rank) =>
        e.prefill({ ...prefillOf(rank, 2, 64), onProgress: rank === 0 ? onProgress : undefined }),
      ),
    );
    const answer = () =>
      Promise.all(
        engines.map((e, rank) => e.decode({ ...question, onProgress: rank === 0 ? onProgress : undefined })),
      );
    const first = await answer();
    expect(first[0]).toEqual(first[1]);
    expect(first[0]).toMatchObject({ finish: 'length' });
    expect(first[0]?.tokens).toHaveLength(4);
    expect(await answer()).toEqual(first);

    const prefill = seen.filter(({ phase }) => phase === 'prefill');
    expect(prefill.map(({ done }) => done)).toEqual(prefill.map((_, i) => i + 1));
    expect(prefill.at(-1)?.done).toBe(prefill[0]?.total);
    expect(seen.filter(({ phase }) => phase === 'decode').map(({ done }) => done)).toEqual([
      1, 2, 3, 4, 1, 2, 3, 4,
    ]);

    await Promise.all(engines.map((e) => e.release()));
    expect((await failure(engines[0]?.decode(question) ?? Promise.resolve())).message).toContain('prefill');
  });
});

test('ranks count the bytes of passing blocks that they sent and received', async () => {
  await withEngines(smallModel, 3, async (engines) => {
    const query = new Uint32Array([1, 2]);
    const request = { ranks: 3, documentTokens: 90, queryTokens: 2, anchorLength: 24, passingLength: 5 };
    const apb = { ...request, method: 'apb' as const };
    const { blocks, anchorDocument, passing } = planLayout(apb);
    const prefilled = await Promise.all(
      engines.map((engine, rank) => {
        const { start, end } = blocks[rank] ?? { start: 0, end: 0 };
        const block = new Uint32Array(end - start).fill(3);
        const head = new Uint32Array(rank === 0 ? 0 : anchorDocument).fill(3);
        return engine.prefill({ layout: apb, head, block, query });
      }),
    );
    // Keys and values of 2 heads of 32 floats, in all layers but the last.
    const row = 2 * 2 * 32 * 4 * (3 - 1);
    const all = passing.reduce((sum, rows) => sum + rows, 0);
    expect(passing[0]).toBe(5);
    expect(prefilled.map(({ passedBytes }) => passedBytes)).toEqual(
      passing.map((rows) => ({ sent: 2 * rows * row, received: (all - rows) * row })),
    );
    const exact = await Promise.all(engines.map((engine, rank) => engine.prefill(prefillOf(rank, 3, 90))));
    expect(exact.map(({ passedBytes, phases }) => [passedBytes.sent, phases])).toEqual(
      Array.from({ length: 3 }, () => [0, undefined]),
    );
  });
});

test('requestStop on rank 0 stops all ranks, and the communicator lives', async () => {
  await withEngines(folder.path, 2, async (engines) => {
    engines[0]?.requestStop(); // nothing is pending: no effect on what comes
    const { begun, results } = slowPrefill(engines);
    await begun;
    engines[1]?.requestStop(); // only rank 0's counts
    engines[0]?.requestStop();
    expect((await results).map(({ code }) => code)).toEqual(['ENGINE_STOPPED', 'ENGINE_STOPPED']);
    await Promise.all(engines.map((e, rank) => e.prefill(prefillOf(rank, 2, 16))));
  });
});

test('requestStop reaches a call that is still queued', async () => {
  await withEngines(folder.path, 1, async (engines) => {
    const { results } = slowPrefill(engines);
    engines[0]?.requestStop();
    expect((await results).map(({ code }) => code)).toEqual(['ENGINE_STOPPED']);
  });
});

test.each([1, 2, 3])('abort ends the calls of %i ranks; they can connect again', async (ranks) => {
  await withEngines(folder.path, ranks, async (engines) => {
    const { begun, results } = slowPrefill(engines);
    const queued = failure(engines[0]?.decode(question) ?? Promise.resolve());
    await begun;
    const start = performance.now();
    engines[0]?.abort();
    const [own, ...others] = await results;
    expect(performance.now() - start).toBeLessThan(5000);
    expect(own?.code).toBe('COMM_ABORTED');
    expect((await queued).code).toBe('COMM_ABORTED');
    for (const { code, peer } of others) {
      expect(code).toBe('COMM_PEER_LOST');
      expect(peer).toBeGreaterThanOrEqual(0);
    }
    expect(
      (await failure(engines[0]?.prefill(prefillOf(0, ranks, 12 * ranks)) ?? Promise.resolve())).code,
    ).toBe('COMM_ABORTED');
    await connect(engines);
    await Promise.all(engines.map((e, rank) => e.prefill(prefillOf(rank, ranks, 12 * ranks))));
  });
});

test('abort ends a connect that waits for a rank that never comes', async () => {
  const engine = Engine.create();
  await engine.load({ modelDir: smallModel, backend: 'cpu', threads: 1 });
  const port = await engine.listen('127.0.0.1');
  const waiting = failure(
    engine.connect({ rank: 0, peers: [`127.0.0.1:${port}`, '127.0.0.1:9'], secret: 's', deadlineMs: 60_000 }),
  );
  setTimeout(() => engine.abort(), 100);
  expect((await waiting).code).toBe('COMM_ABORTED');
  await engine.dispose();
});

test('a missing rank is a deadline with its address', async () => {
  const engine = Engine.create();
  await engine.load({ modelDir: smallModel, backend: 'cpu', threads: 1 });
  await engine.listen('127.0.0.1');
  const error = await failure(
    engine.connect({ rank: 1, peers: ['127.0.0.1:1', 'b:2'], secret: 's', deadlineMs: 200 }),
  );
  expect(error).toMatchObject({
    code: 'COMM_DEADLINE',
    peer: 0,
    message: expect.stringContaining('127.0.0.1:1') as unknown,
  });
  await engine.dispose();
});

test('an AbortSignal aborts, and its reason is the cause', async () => {
  await withEngines(folder.path, 1, async (engines) => {
    const controller = new AbortController();
    const { begun, results } = slowPrefill(engines, controller.signal);
    await begun;
    const reason = new Error('cancelled by the person');
    controller.abort(reason);
    expect(await results).toMatchObject([{ code: 'COMM_ABORTED', cause: reason }]);
    const late = slowPrefill(engines, controller.signal);
    expect(await late.results).toMatchObject([{ code: 'COMM_ABORTED', cause: reason }]);
  });
});

test('dispose in the middle of a prefill ends it, frees all, and can be repeated', async () => {
  const [engine] = await connected(folder.path, 1);
  if (!engine) throw new Error('no engine');
  const { begun, results } = slowPrefill([engine]);
  await begun;
  const disposed = engine.dispose();
  expect(await results).toMatchObject([{ code: 'COMM_ABORTED' }]);
  await disposed;
  await engine.dispose();
  engine.abort();
  engine.requestStop();
  expect((await failure(engine.release())).code).toBe('ENGINE_DISPOSED');
});
