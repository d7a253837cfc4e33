import type { LayoutOptions } from '../engine/engine.js';

/** Requests to a rank process of `engine confirm` over Node's IPC channel: each has one reply. */
export type ToConfirmRank =
  | { kind: 'start'; rank: number; ranks: number; modelDir: string; threads: number }
  | { kind: 'connect'; peers: string[]; secret: string }
  | {
      kind: 'answer';
      layout: LayoutOptions;
      head: Uint32Array;
      block: Uint32Array;
      query: Uint32Array;
      maxNewTokens: number;
      eos: number[];
    };

export type FromConfirmRank =
  /** Port 0: a rank alone listens nowhere. */
  | { kind: 'started'; port: number; backend: string }
  | { kind: 'connected' }
  | { kind: 'answered'; tokens: Uint32Array }
  | { kind: 'failed'; code: string; message: string };
