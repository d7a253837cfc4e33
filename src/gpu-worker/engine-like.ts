/** What a rank needs of the engine (engine/engine.ts): tests of the protocol put a fake in its place. */

export interface LayoutRequest {
  method: 'full' | 'star' | 'apb';
  ranks: number;
  documentTokens: number;
  queryTokens: number;
  anchorLength?: number;
  passingLength: number;
}

export interface Layout {
  blocks: { start: number; end: number }[];
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
  connect(options: { rank: number; peers: string[]; secret: string; deadlineMs: number }): Promise<unknown>;
  prefill(options: {
    layout: LayoutRequest;
    head: Uint32Array;
    block: Uint32Array;
    query: Uint32Array;
    collectiveTimeoutMs?: number;
    onProgress?: (progress: EngineProgress) => void;
  }): Promise<unknown>;
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
