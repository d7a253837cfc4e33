import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Engine, type PrefillOptions } from '../../src/gpu-worker/engine/engine.js';

export const cases = resolve('test/cases');
export const smallModel = join(cases, 'models/llama-d32');

/** A folder that goes away with `dispose`. */
export function temporaryFolder(): { path: string; dispose: () => void } {
  const path = mkdtempSync(join(tmpdir(), 'longhaul-engine-'));
  return { path, dispose: () => rmSync(path, { recursive: true, force: true }) };
}

/** A checkpoint of zeros with many layers: seconds of prefill, stopped or aborted after a fraction. */
export function writeSlowModel(dir: string, layers = 400): string {
  const [hidden, intermediate, vocabulary, dimension] = [64, 64, 32, 32];
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_act: 'silu',
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_hidden_layers: layers,
    num_attention_heads: 2,
    num_key_value_heads: 2,
    head_dim: dimension,
    vocab_size: vocabulary,
    max_position_embeddings: 65536,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: true,
  };
  writeFileSync(join(dir, 'config.json'), JSON.stringify(config));

  const shapes: [string, number[]][] = [
    ['model.embed_tokens.weight', [vocabulary, hidden]],
    ['model.norm.weight', [hidden]],
  ];
  for (let i = 0; i < layers; i++) {
    const layer = `model.layers.${i}`;
    for (const name of ['q', 'k', 'v', 'o'])
      shapes.push([`${layer}.self_attn.${name}_proj.weight`, [64, hidden]]);
    shapes.push([`${layer}.mlp.gate_proj.weight`, [intermediate, hidden]]);
    shapes.push([`${layer}.mlp.up_proj.weight`, [intermediate, hidden]]);
    shapes.push([`${layer}.mlp.down_proj.weight`, [hidden, intermediate]]);
    shapes.push([`${layer}.input_layernorm.weight`, [hidden]]);
    shapes.push([`${layer}.post_attention_layernorm.weight`, [hidden]]);
  }
  let at = 0;
  const header = Object.fromEntries(
    shapes.map(([name, shape]) => {
      const bytes = 2 * shape.reduce((a, b) => a * b, 1);
      at += bytes;
      return [name, { dtype: 'BF16', shape, data_offsets: [at - bytes, at] }];
    }),
  );
  const text = JSON.stringify(header);
  const json = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8)); // aligned data
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(join(dir, 'model.safetensors'), Buffer.concat([length, json, Buffer.alloc(at)]));
  return dir;
}

export const slowDocument = 4092; // divides over 1, 2 and 3 ranks

/** Connected engines of one process, in rank order. */
export async function connected(modelDir: string, ranks: number): Promise<Engine[]> {
  const engines = Array.from({ length: ranks }, () => Engine.create());
  for (const engine of engines) await engine.load({ modelDir, backend: 'cpu', threads: 1 });
  await connect(engines);
  return engines;
}

export async function connect(engines: Engine[]): Promise<void> {
  const ports = engines.length > 1 ? await Promise.all(engines.map((e) => e.listen('127.0.0.1'))) : [0];
  const peers = ports.map((port) => `127.0.0.1:${port}`);
  await Promise.all(
    engines.map((engine, rank) => engine.connect({ rank, peers, secret: 'test', deadlineMs: 20_000 })),
  );
}

/** An exact prefill of token 1, over and over. */
export function prefillOf(rank: number, ranks: number, documentTokens: number): PrefillOptions {
  return {
    layout: { method: 'full', ranks, documentTokens, queryTokens: 2, passingLength: 0 },
    head: new Uint32Array(),
    block: new Uint32Array(documentTokens / ranks).fill(1),
    query: new Uint32Array([1, 2]),
    collectiveTimeoutMs: 30_000,
  };
}

/** The code and peer that a promise rejects with. */
export async function failure(
  promise: Promise<unknown>,
): Promise<{ code: string; peer?: number; message: string; cause: unknown }> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Error && 'code' in error) {
      return {
        code: String(error.code),
        peer: (error as { peer?: number }).peer,
        message: error.message,
        cause: error.cause,
      };
    }
    throw error;
  }
  throw new Error('the promise did not reject');
}
