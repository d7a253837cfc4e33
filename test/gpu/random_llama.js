/**
 * A Llama checkpoint in Hugging Face's layout with random weights, in bfloat16: Llama-3.1-8B's shapes or tiny ones, with
 * retaining heads and somebody's tokenizer. The same weights every time, from one pool of normal numbers read at random
 * places, because 16 GB of numbers drawn one by one would take an hour.
 */
import { Buffer } from 'node:buffer';
import { closeSync, copyFileSync, existsSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const SHAPES = {
  'llama-3.1-8b': {
    hidden: 4096,
    layers: 32,
    heads: 32,
    kvHeads: 8,
    dimension: 128,
    intermediate: 14336,
    retain: 1024,
  },
  tiny: { hidden: 128, layers: 4, heads: 4, kvHeads: 2, dimension: 32, intermediate: 256, retain: 32 },
};
const VOCABULARY = 128256;
const STD = 0.02;
const SHARD_BYTES = 5e9;
const POOL = 1 << 24;
const PIECE = 1 << 22;
/** Rows of lm_head that decide: see lmHead. */
const DECIDING = 16;

/** xorshift32: numbers in [0, 1). */
function randoms(seed) {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Values as bfloat16, rounded to nearest. */
function bf16(values) {
  const bits = new Uint32Array(values.buffer);
  return Uint16Array.from(bits, (b) => (b + 0x7fff + ((b >>> 16) & 1)) >>> 16);
}

function normals(count, std, random) {
  const values = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const radius = std * Math.sqrt(-2 * Math.log(1 - random()));
    const angle = 2 * Math.PI * random();
    values[i] = radius * Math.cos(angle);
    if (i + 1 < count) values[i + 1] = radius * Math.sin(angle);
  }
  return values;
}

function tensors({ hidden, layers, heads, kvHeads, dimension, intermediate, retain }) {
  const model = [['model.embed_tokens.weight', [VOCABULARY, hidden], 'random']];
  const retaining = [];
  for (let i = 0; i < layers; i++) {
    const layer = `model.layers.${i}`;
    const queries = heads * dimension;
    const keys = kvHeads * dimension;
    for (const [name, rows] of [
      ['q', queries],
      ['k', keys],
      ['v', keys],
    ])
      model.push([`${layer}.self_attn.${name}_proj.weight`, [rows, hidden], 'random']);
    model.push([`${layer}.self_attn.o_proj.weight`, [hidden, queries], 'random']);
    for (const name of ['gate', 'up'])
      model.push([`${layer}.mlp.${name}_proj.weight`, [intermediate, hidden], 'random']);
    model.push([`${layer}.mlp.down_proj.weight`, [hidden, intermediate], 'random']);
    for (const name of ['input', 'post_attention'])
      model.push([`${layer}.${name}_layernorm.weight`, [hidden], 'ones']);
    retaining.push([`${layer}.self_attn.fc1.weight`, [retain, queries + 2 * keys], 'random']);
    retaining.push([`${layer}.self_attn.fc2.weight`, [kvHeads, retain], 'random']);
  }
  model.push(['model.norm.weight', [hidden], 'ones'], ['lm_head.weight', [VOCABULARY, hidden], 'lmHead']);
  return { model, retaining };
}

const bytesOf = ([, shape]) => 2 * shape.reduce((a, b) => a * b, 1);

class Writer {
  constructor(seed) {
    this.random = randoms(seed);
    this.pool = bf16(normals(POOL, STD, this.random));
  }

  write(path, list) {
    let at = 0;
    const header = { __metadata__: { format: 'pt' } };
    for (const tensor of list) {
      const [name, shape] = tensor;
      header[name] = { dtype: 'BF16', shape, data_offsets: [at, (at += bytesOf(tensor))] };
    }
    const text = JSON.stringify(header);
    const json = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(json.length));
    const file = openSync(path, 'w');
    const put = (data) => {
      for (let done = 0; done < data.length;) done += writeSync(file, data, done);
    };
    put(length);
    put(json);
    for (const tensor of list) this.fill(tensor, put);
    closeSync(file);
  }

  fill([, shape, kind], put) {
    const count = shape.reduce((a, b) => a * b, 1);
    if (kind === 'ones') return put(Buffer.from(new Uint16Array(count).fill(0x3f80).buffer));
    if (kind === 'lmHead') return this.lmHead(shape, put);
    for (let done = 0; done < count; done += PIECE) {
      const size = Math.min(PIECE, count - done);
      const from = Math.floor(this.random() * (POOL - size));
      put(Buffer.from(this.pool.buffer, from * 2, size * 2));
    }
  }

  /**
   * Two processes need not compute the same bits, because products are timed anew in each and the fastest way of
   * several is taken. Among 128,256 equal rows the two best logits would often be closer than that changes them;
   * so 16 rows decide, each a little longer than the next, and all others are 0.
   */
  lmHead([rows, hidden], put) {
    const deciding = Array.from({ length: DECIDING }, (_, i) =>
      bf16(normals(hidden, STD * 0.8 ** i, this.random)),
    );
    const block = new Uint16Array(1000 * hidden);
    for (let row = 0; row < rows; row++) {
      // From token 32 on, which are letters.
      const values = deciding[row - 32];
      if (values !== undefined) block.set(values, (row % 1000) * hidden);
      if (row % 1000 === 999 || row === rows - 1) {
        put(Buffer.from(block.buffer, 0, ((row % 1000) + 1) * hidden * 2));
        block.fill(0);
      }
    }
  }
}

/** Writes the checkpoint unless the directory has it; `report` hears of each file. */
export function makeLlama(directory, { shapes, tokenizer, report }) {
  if (existsSync(join(directory, 'config.json'))) return;
  const shape = SHAPES[shapes];
  mkdirSync(directory, { recursive: true });
  for (const name of ['tokenizer.json', 'tokenizer_config.json'])
    copyFileSync(join(tokenizer, name), join(directory, name));
  const { model, retaining } = tensors(shape);
  const shards = [[]];
  let bytes = 0;
  for (const tensor of model) {
    if (bytes > 0 && bytes + bytesOf(tensor) > SHARD_BYTES) {
      shards.push([]);
      bytes = 0;
    }
    bytes += bytesOf(tensor);
    shards.at(-1).push(tensor);
  }
  const writer = new Writer(20260101);
  const names = shards.map(
    (_, i) =>
      `model-${String(i + 1).padStart(5, '0')}-of-${String(shards.length).padStart(5, '0')}.safetensors`,
  );
  for (const [i, shard] of shards.entries()) {
    writer.write(join(directory, names[i]), shard);
    report(names[i]);
  }
  writer.write(join(directory, 'retaining_heads.safetensors'), retaining);
  const weight_map = Object.fromEntries(
    shards.flatMap((shard, i) => shard.map(([name]) => [name, names[i]])),
  );
  const total_size = model.reduce((sum, tensor) => sum + bytesOf(tensor), 0);
  writeFileSync(
    join(directory, 'model.safetensors.index.json'),
    JSON.stringify({ metadata: { total_size }, weight_map }),
  );
  // Last: what says that the directory is whole.
  writeFileSync(join(directory, 'config.json'), JSON.stringify(configOf(shape), null, 2));
}

function configOf({ hidden, layers, heads, kvHeads, dimension, intermediate }) {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_act: 'silu',
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: dimension,
    vocab_size: VOCABULARY,
    // Twice Llama's, so that a document of 128K tokens has room for its question.
    max_position_embeddings: 262144,
    rms_norm_eps: 1e-5,
    rope_theta: 500000,
    rope_scaling: {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    },
    tie_word_embeddings: false,
    bos_token_id: 128000,
    eos_token_id: [128001, 128008, 128009],
    torch_dtype: 'bfloat16',
  };
}
