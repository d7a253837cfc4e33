import type { BackendName, LayoutOptions, PhaseTimes, Precision, Rates, Select } from '../engine/engine.js';

/** Requests to a rank process of `engine confirm`, `bench` and `plan` over Node's IPC channel: each has one reply. */
export type ToConfirmRank =
  | {
      kind: 'start';
      rank: number;
      ranks: number;
      modelDir: string;
      threads: number;
      backend: BackendName;
      precision: Precision;
    }
  | { kind: 'connect'; peers: string[]; secret: string }
  | {
      kind: 'answer';
      layout: LayoutOptions;
      head: Uint32Array;
      block: Uint32Array;
      query: Uint32Array;
      maxNewTokens: number;
      eos: number[];
    }
  | { kind: 'rates' }
  | {
      kind: 'measure';
      layout: LayoutOptions;
      head: Uint32Array;
      block: Uint32Array;
      query: Uint32Array;
      select: Select;
    };

export type FromConfirmRank =
  /** Port 0: a rank alone listens nowhere. */
  | { kind: 'started'; port: number; backend: string; vocabulary: number }
  /** Through what: solo, tcp or nccl. */
  | { kind: 'connected'; comm: string }
  | { kind: 'answered'; tokens: Uint32Array }
  | { kind: 'rated'; rates: Rates }
  /** One prefill: its seconds, those that its threads together had a processor, and the process's peak memory up to its end. */
  | {
      kind: 'measured';
      seconds: number;
      processorSeconds: number;
      phases: PhaseTimes;
      peakRssBytes: number;
    }
  | { kind: 'failed'; code: string; message: string };
