import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { capabilities, Engine } from '../../src/gpu-worker/engine/engine.js';

let directory = '';

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'longhaul-cuda-'));
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** A shared object in the CUDA library's place whose entry runs `body`. */
function library(name: string, body: string): string {
  const path = join(directory, `${name}.so`);
  const source = `#include <cstdlib>
    extern "C" const void* longhaul_cuda_abi() { ${body} }`;
  execFileSync('c++', ['-shared', '-fPIC', '-o', path, '-x', 'c++', '-'], { input: source });
  return path;
}

test('a library that is not there is named, with the command that builds it', () => {
  const cudaLibrary = join(directory, 'nowhere.so');
  const { cuda, backends } = capabilities({ cudaLibrary });
  expect(backends).toEqual(['cpu']);
  expect(cuda.available).toBe(false);
  expect(cuda.missing).toHaveLength(1);
  expect(cuda.missing[0]).toContain(cudaLibrary);
  expect(cuda.missing[0]).toContain('make cuda');
});

test('a file that is no library, and a library of another build, are refused', () => {
  const text = join(directory, 'text.so');
  writeFileSync(text, 'not a library');
  expect(capabilities({ cudaLibrary: text }).cuda.missing.join()).toMatch(/cannot be opened .*make cuda/);
  const stale = library('stale', 'static const char* abi[3] = {"of another tree"}; return abi;');
  expect(capabilities({ cudaLibrary: stale }).cuda.missing.join()).toMatch(
    /is of another build \(of another tree, .*make cuda/,
  );
});

test('a driver that crashes takes the probe with it, and not this process', () => {
  const crashing = library('crashing', 'std::abort();');
  expect(capabilities({ cudaLibrary: crashing }).cuda.missing.join()).toMatch(/died of signal 6/);
});

test('a backend that is named is never replaced; auto comes to the CPU and says so', async () => {
  const cudaLibrary = join(directory, 'nowhere.so');
  const engine = Engine.create();
  try {
    const options = { modelDir: 'models/demo', threads: 1, cudaLibrary };
    await expect(engine.load({ ...options, backend: 'cuda' })).rejects.toMatchObject({
      code: 'ENGINE_UNSUPPORTED',
      message: expect.stringContaining(cudaLibrary) as string,
    });
    const { backend } = await engine.load({ ...options, backend: 'auto' });
    expect(backend).toMatch(/^cpu/);
    await expect(engine.load({ ...options, backend: 'cpu', gpu: -1 })).rejects.toMatchObject({
      code: 'ENGINE_INVALID_ARGUMENT',
    });
  } finally {
    await engine.dispose();
  }
});

test('NCCL is of no use without GPUs: capabilities say so, nccl that was named is refused on every rank, auto is tcp', async () => {
  expect(capabilities({ cudaLibrary: join(directory, 'nowhere.so') }).nccl).toEqual({
    available: false,
    source: '',
    missing: 'needs the CUDA backend',
  });
  const engines = [Engine.create(), Engine.create()];
  const connect = async (comm: 'nccl' | 'auto') => {
    const ports = await Promise.all(engines.map((engine) => engine.listen('127.0.0.1')));
    const peers = ports.map((port) => `127.0.0.1:${port}`);
    return Promise.allSettled(
      engines.map((engine, rank) => engine.connect({ rank, peers, secret: 's', deadlineMs: 20_000, comm })),
    );
  };
  try {
    await Promise.all(
      engines.map((engine) => engine.load({ modelDir: 'models/demo', threads: 1, backend: 'cpu' })),
    );
    for (const outcome of await connect('nccl'))
      expect(outcome).toMatchObject({
        status: 'rejected',
        reason: {
          code: 'ENGINE_UNSUPPORTED',
          message: expect.stringMatching(/rank 0 lacks a GPU.*rank 1 lacks a GPU/) as string,
        },
      });
    expect(await connect('auto')).toEqual([
      { status: 'fulfilled', value: 'tcp' },
      { status: 'fulfilled', value: 'tcp' },
    ]);
  } finally {
    await Promise.all(engines.map((engine) => engine.dispose()));
  }
});
