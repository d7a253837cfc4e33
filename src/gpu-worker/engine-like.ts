/** What a rank needs of the engine (engine/engine.ts): tests of the protocol put a fake in its place. */

import type { Prefilled } from './engine/bindings.js';
import type { RunOptions } from '../contracts/request.js';

export interface LayoutRequest {
  method: RunOptions['method'];
  ranks: number;
  documentTokens: number;
  queryTokens: number;
  anchorLength?: number;
  passingLength: number;
  ringLayout?: NonNullable<RunOptions['ring_layout']>;
  /** One length per rank; even blocks unless given. */
  blocks?: number[];
}

export interface Layout {
  blocks: { start: number; end: number }[];
  /** Each rank's second piece (ring zigzag); empty pieces otherwise. */
  mirrors: { start: number; end: number }[];
  /** How many leading document tokens the anchor holds. */
  anchorDocument: number;
  anchorLength: number;
}

export interface EngineProgress {
  phase: 'prefill' | 'decode';
  done: number;
  total: number;
}

export interface EngineLike {
  listen(host: string, port?: number): Promise<number>;
  connect(options: {
    rank: number;
    peers: string[];
    secret: string;
    deadlineMs: number;
    comm?: 'tcp' | 'nccl' | 'auto';
    nccl?: string | undefined;
  }): Promise<string>;
  prefill(options: {
    layout: LayoutRequest;
    head: Uint32Array;
    block: Uint32Array;
    query: Uint32Array;
    select?: NonNullable<RunOptions['select']>;
    collectiveTimeoutMs?: number;
    /** Measures the seconds of each phase. */
    phases?: boolean;
    onProgress?: (progress: EngineProgress) => void;
  }): Promise<Prefilled>;
  decode(options: {
    query: Uint32Array;
    maxNewTokens: number;
    temperature: number;
    seed: number;
    eos: number[];
    collectiveTimeoutMs?: number;
  }): Promise<{ tokens: Uint32Array; finish: 'eos' | 'length' }>;
  requestStop(): void;
  abort(): void;
  release(): Promise<unknown>;
  dispose(): Promise<unknown>;
}

/** What the engine says about the loaded model. */
export interface ModelFacts {
  backend: string;
  vocabulary: number;
  maxPositions: number;
  layers: number;
  hasRetainingHeads: boolean;
}
