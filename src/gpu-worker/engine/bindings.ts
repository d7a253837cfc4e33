/** The raw addon, exactly as native/node exports it. Everything else goes through engine.ts. */

export type Method = 'full' | 'ring' | 'ulysses' | 'star' | 'apb';
export type RingLayout = 'contiguous' | 'zigzag';
export type Select = 'heads' | 'spava' | 'random';

export interface LayoutOptions {
  method: Method;
  ranks: number;
  documentTokens: number;
  /** Tokens of all the questions that one prefill serves. */
  queryTokens: number;
  /** l_a. Unset: star takes the length of block 0; apb needs it, 0 means no anchor. */
  anchorLength?: number | null;
  /** l_p */
  passingLength: number;
  /** Document tokens before the query in the anchor; 16 unless given. */
  queryPosition?: number;
  /** One length per rank; even blocks unless given. */
  blocks?: number[] | null;
  /** Ring only; `contiguous` unless given. */
  ringLayout?: RingLayout;
}

export interface Layout {
  /** Document positions [start, end) of each rank. */
  blocks: { start: number; end: number }[];
  /** Each rank's second piece (ring zigzag); empty pieces otherwise. */
  mirrors: { start: number; end: number }[];
  /** Leading document tokens that the anchor of ranks > 0 holds. */
  anchorDocument: number;
  /** Where the query is inserted into the anchor (apb). */
  anchorQueryAt: number;
  /** Rows of the anchor, query included; 0: no anchor. */
  anchorLength: number;
  /** Rows that each rank passes on per KV head. */
  passing: number[];
}

export interface Capabilities {
  backends: string[];
  /** Widest vector kernels of the CPU backend that this processor runs. */
  isa: string;
  /** Hardware threads of this process. */
  threads: number;
  cuda: {
    available: boolean;
    /** "cuda (NVIDIA H100 80GB HBM3)"; empty when it does not work. */
    description: string;
    /** Where cuBLASLt was found, and its version. */
    cublasLt: string;
    /** Each thing that is not there or cannot be used, with the remedy. */
    missing: string[];
  };
  /** Collectives between GPUs. */
  nccl: {
    available: boolean;
    /** Where NCCL was found, and its version. */
    source: string;
    /** Why it cannot be used, with the remedy; empty when it can. */
    missing: string;
  };
}

/** Where the CUDA backend finds what it opens at run time; everything has a default. */
export interface CudaOptions {
  /** libapb_cuda.so; beside the addon unless given. */
  cudaLibrary?: string | undefined;
  /** libcublasLt.so; the system's, a toolkit's or a Python package's unless given. */
  cublasLt?: string | undefined;
  /** libnccl.so.2; the system's, a toolkit's or a Python package's unless given. */
  nccl?: string | undefined;
  /** Which GPU, counted modulo the number of those that the process sees. */
  gpu?: number | undefined;
}

export type Precision = 'float32' | 'bf16';

export type BackendName = 'cpu' | 'cuda' | 'auto';

export interface LoadOptions extends CudaOptions {
  modelDir: string;
  /** retaining_heads.safetensors in modelDir, when it is there, unless given. */
  headsFile?: string;
  backend: BackendName;
  threads: number;
  isa?: 'auto' | 'portable' | 'avx2' | 'avx512';
  /** What the CPU's linear layers multiply; float32 unless given. `bf16` needs AMX or AVX512_BF16, or the load fails. */
  precision?: Precision;
  /** Bytes of the CPU backend for a document: its cache, and what runs over it; the machine's memory unless given. */
  documentMemory?: number;
}

export interface ModelInfo {
  architecture: string;
  layers: number;
  hidden: number;
  vocabulary: number;
  maxPositions: number;
  heads: { query: number; keyValue: number; dimension: number };
  hasRetainingHeads: boolean;
  /** What `auto` came to as well: "cpu (avx2, 2 threads)". */
  backend: string;
}

export interface ConnectOptions {
  rank: number;
  /** "host:port" of every rank's listener; one peer is a rank alone, which needs no listener. */
  peers: string[];
  secret: string;
  deadlineMs: number;
  /** `tcp` unless given. `auto`: nccl where every rank has a GPU of its own, tcp otherwise. */
  comm?: 'tcp' | 'nccl' | 'auto';
  /** libnccl.so.2, as in CudaOptions. */
  nccl?: string | undefined;
}

export interface Progress {
  phase: 'prefill' | 'decode';
  /** Layers in prefill, tokens in decode. */
  done: number;
  total: number;
}

interface RunOptions {
  /** For each collective; one minute unless given. */
  collectiveTimeoutMs?: number;
  onProgress?: (progress: Progress) => void;
}

export interface PrefillOptions extends RunOptions {
  layout: LayoutOptions;
  /** The first `anchorDocument` tokens of the document; ranks > 0. */
  head: Uint32Array;
  /** This rank's block, and then its mirror. */
  block: Uint32Array;
  /** The query in the anchor (apb); on all ranks. */
  query: Uint32Array;
  /** `heads` unless given; `spava` needs none; `random` is an ablation. */
  select?: Select;
  selectSeed?: bigint | number;
  /** Rows per GEMM and attention call: bounds activation memory. */
  chunkRows?: number;
  /** Records intermediate values for `trace()`: tests and `longhaul engine check`. */
  trace?: boolean;
  /** The call resolves with the seconds of each phase: `longhaul bench prefill`. A device waits at the end of each. */
  phases?: boolean;
}

export type Phase = 'qkv' | 'scores' | 'selection' | 'communication' | 'attention' | 'output' | 'mlp';

/** Seconds of all layers together. Attention of ring and ulysses contains its communication. */
export type PhaseTimes = Record<Phase, number>;

export interface Prefilled {
  /** Where `phases` asks for them. */
  phases?: PhaseTimes;
  /** Of passing blocks, all layers together: to the other ranks, and from them. */
  passedBytes: { sent: number; received: number };
}

export interface DecodeOptions extends RunOptions {
  query: Uint32Array;
  maxNewTokens: number;
  /** 0, the default: greedy. */
  temperature?: number;
  seed?: bigint | number;
  /** One of them ends decoding and is kept as the last token. */
  eos: number[];
  /** Tests: replaces the choices, one per step. */
  teacher?: Uint32Array;
}

export interface Decoded {
  tokens: Uint32Array;
  finish: 'eos' | 'length';
}

/** One rank's values of the last prefill and decode; shapes in native/engine/trace.h. */
export interface Trace {
  /** Rank 0 only. */
  logits: Float32Array;
  /** [layer, values] */
  selected: [number, Int32Array][];
  scores: [number, Float32Array][];
  /** By layer. */
  queryLse: Float32Array[];
  queryMergedLse: Float32Array[];
  queryHidden: Float32Array[];
  /** By layer: Frobenius norms of K and V. */
  cacheNorms: [number, number][];
}

/** How fast this rank prefills: seconds over all layers. */
export interface Rates {
  /** Per row of the block or anchor. */
  rowSeconds: number;
  /** Per pair of a query row and a key. */
  pairSeconds: number;
}

export interface RawEngine {
  load(options: LoadOptions): Promise<ModelInfo>;
  measureRates(): Promise<Rates>;
  listen(options: { host: string; port: number }): Promise<number>;
  connect(options: ConnectOptions): Promise<string>;
  prefill(options: PrefillOptions): Promise<Prefilled>;
  decode(options: DecodeOptions): Promise<Decoded>;
  trace(): Promise<Trace>;
  release(): Promise<void>;
  dispose(): Promise<void>;
  requestStop(): void;
  abort(): void;
}

export interface Addon {
  Engine: new () => RawEngine;
  planLayout(options: LayoutOptions): Layout;
  capabilities(options: CudaOptions): Capabilities;
}
