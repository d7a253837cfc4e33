/** State, inputs and effects of the cohort protocol; what they mean is told in protocol.ts. */
import type { AbortCause, Body, Failure, Message, RunEnd, Ticket } from './messages.js';

export type Phase = 'forming' | 'sealed' | 'ready' | 'preparing' | 'running' | 'aborting' | 'gone';
export type Timer = 'join' | 'prepare' | 'run' | 'settle' | 'leave' | 'abort';

/** How a claimed item left the cohort, as told to the leader's processor. */
export type Settlement =
  | { kind: 'end'; end: RunEnd }
  | { kind: 'refused'; failure: Failure }
  | { kind: 'withheld' }
  | { kind: 'lost'; cause: AbortCause };

export interface State {
  readonly rank: number;
  readonly ranks: number;
  /** This process, so that a seal written for an earlier one is not taken for its own. */
  readonly incarnation: string;
  readonly phase: Phase;
  readonly generation: string | null;
  /** Ranks that said READY (leader). */
  readonly ready: readonly number[];
  /** The highest run seen in this generation. */
  readonly lastRun: number;
  /** The run in hand; null outside preparing and running. */
  readonly ticket: Ticket | null;
  /** Ranks that are PREPARED for it; a follower keeps only its own. */
  readonly prepared: readonly number[];
  /** Ends reported so far for the run in hand (leader), by rank. */
  readonly ends: Readonly<Record<number, RunEnd>>;
  /** The cohort closes when the run in hand is over. */
  readonly closing: boolean;
}

export type Members = Readonly<Record<number, string>>;

export type Input =
  | { type: 'opened'; generation: string }
  | { type: 'members'; generation: string; members: Members }
  | { type: 'seal'; generation: string; members: Members }
  | { type: 'connected'; generation: string }
  | { type: 'message'; message: Message }
  | { type: 'claimed'; batch: string; item: number; epoch: number }
  | { type: 'prepareEnded'; run: number; failure: Failure | null }
  | { type: 'confirmed'; run: number; go: boolean; runMs: number }
  | { type: 'stop'; run: number }
  | { type: 'engineEnded'; run: number; end: RunEnd }
  | { type: 'fault'; cause: AbortCause }
  | { type: 'timeout'; timer: Timer; run: number }
  | { type: 'close' }
  | { type: 'left' };

export type Effect =
  | { do: 'seal'; members: Members }
  | { do: 'connect'; members: Members }
  | { do: 'send'; body: Body }
  | { do: 'claims'; open: boolean }
  | { do: 'prepare'; ticket: Ticket }
  | { do: 'confirm'; ticket: Ticket }
  | { do: 'run'; ticket: Ticket }
  | { do: 'drop'; ticket: Ticket }
  | { do: 'stop'; ticket: Ticket }
  | { do: 'settle'; ticket: Ticket; settlement: Settlement }
  /** Starts a timer; `ms` null: its length is the profile's for this timer. */
  | { do: 'timer'; timer: Timer; run: number; ms: number | null }
  | { do: 'clear'; timer: Timer }
  | { do: 'abort'; cause: AbortCause }
  | { do: 'exit'; clean: boolean };

export interface Step {
  state: State;
  effects: Effect[];
}

export function initialState(rank: number, ranks: number, incarnation: string): State {
  return {
    rank,
    ranks,
    incarnation,
    phase: 'forming',
    generation: null,
    ready: [],
    lastRun: 0,
    ticket: null,
    prepared: [],
    ends: {},
    closing: false,
  };
}
