/** A model directory with random weights and the tokenizer of the fixtures: real work, no sense. */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const fixture = resolve('test/fixtures/tiny-model');
const VOCABULARY = 380;
const HIDDEN = 64;
const HEADS = { query: 2, keyValue: 2, dimension: 32 };
const RETAIN = 16;

/** The same numbers on every machine. */
function randoms(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

type Tensor = [name: string, shape: number[], scale: number | 'ones'];

function writeSafetensors(path: string, dtype: 'BF16' | 'F32', tensors: Tensor[], seed: number): void {
  const width = dtype === 'BF16' ? 2 : 4;
  const random = randoms(seed);
  const header: Record<string, unknown> = {};
  const parts: Buffer[] = [];
  let at = 0;
  for (const [name, shape, scale] of tensors) {
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () =>
      scale === 'ones' ? 1 : random() * scale,
    );
    const full = Buffer.from(values.buffer);
    let data = full;
    if (width === 2) {
      data = Buffer.alloc(values.length * 2);
      for (let i = 0; i < values.length; i++) data.writeUInt16LE(full.readUInt16LE(i * 4 + 2), i * 2);
    }
    header[name] = { dtype, shape, data_offsets: [at, at + data.byteLength] };
    at += data.byteLength;
    parts.push(data);
  }
  const text = JSON.stringify(header);
  const json = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(path, Buffer.concat([length, json, ...parts]));
}

/** More layers: more time in prefill. Returns the directory. */
export function writeRandomModel(directory: string, layers: number): string {
  mkdirSync(directory, { recursive: true });
  for (const name of ['tokenizer.json', 'longhaul.json']) {
    copyFileSync(join(fixture, name), join(directory, name));
  }
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_act: 'silu',
    hidden_size: HIDDEN,
    intermediate_size: HIDDEN,
    num_hidden_layers: layers,
    num_attention_heads: HEADS.query,
    num_key_value_heads: HEADS.keyValue,
    head_dim: HEADS.dimension,
    vocab_size: VOCABULARY,
    max_position_embeddings: 131072,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: false,
  };
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config));
  const square = [HIDDEN, HIDDEN];
  const tensors: Tensor[] = [
    ['model.embed_tokens.weight', [VOCABULARY, HIDDEN], 1],
    ['model.norm.weight', [HIDDEN], 'ones'],
    ['lm_head.weight', [VOCABULARY, HIDDEN], 1],
  ];
  const heads: Tensor[] = [];
  const rows = (HEADS.query + 2 * HEADS.keyValue) * HEADS.dimension;
  for (let i = 0; i < layers; i++) {
    const layer = `model.layers.${i}`;
    for (const name of ['q', 'k', 'v', 'o'])
      tensors.push([`${layer}.self_attn.${name}_proj.weight`, square, 0.2]);
    for (const name of ['gate', 'up', 'down'])
      tensors.push([`${layer}.mlp.${name}_proj.weight`, square, 0.2]);
    for (const name of ['input', 'post_attention'])
      tensors.push([`${layer}.${name}_layernorm.weight`, [HIDDEN], 'ones']);
    heads.push([`${layer}.self_attn.fc1.weight`, [RETAIN, rows], 0.2]);
    heads.push([`${layer}.self_attn.fc2.weight`, [HEADS.keyValue, RETAIN], 0.2]);
  }
  writeSafetensors(join(directory, 'model.safetensors'), 'BF16', tensors, 1);
  writeSafetensors(join(directory, 'retaining_heads.safetensors'), 'F32', heads, 2);
  return directory;
}
