import type { BackendName, Decoded, Trace } from '../engine/engine.js';
import type { Case } from './case.js';

/** What the check tells a rank process, and what it hears, over Node's IPC channel. */
export type ToRank =
  | {
      kind: 'start';
      rank: number;
      modelDir: string;
      input: Case['input'];
      tokens: number[];
      backend: BackendName;
      threads: number;
    }
  | { kind: 'connect'; peers: string[]; secret: string };

export type FromRank =
  | { kind: 'listening'; port: number }
  | { kind: 'done'; result: RankResult }
  | { kind: 'failed'; code: string; message: string };

export interface RankResult {
  /** The backend's description. */
  backend: string;
  /** Of the decode that was fed the golden tokens. */
  trace: Trace;
  /** Of a second decode, which chose for itself. */
  decoded: Decoded;
}
