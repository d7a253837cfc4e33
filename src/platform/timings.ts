/** Every time limit of the queue and cohort protocol, in milliseconds. One profile per deployment. */
export interface Timings {
  /** BullMQ lock of a `documents` job; the leader's lease. */
  lock: number;
  /** How often the leader extends the lock. */
  extend: number;
  /** The leader aborts when this little of the lease is left. */
  leaseMargin: number;
  /** BullMQ's stalledInterval; must be one value for all workers of a queue. */
  stalled: number;
  heartbeat: number;
  /** A heartbeat older than this is a death; a rank that cannot write its own ends itself. */
  heartbeatExpiry: number;
  /** Forming: from a new generation to all ranks READY. */
  join: number;
  /** A rank must be out of an aborted collective within this, or it exits. */
  abort: number;
  /** From PREPARE to every rank's PREPARED. */
  prepare: number;
  /** Each collective inside the engine. */
  collective: number;
  /** Phase deadline of a run: base + perToken * tokens. */
  runBase: number;
  runPerToken: number;
  /** Grace of a drain: a running item may finish within this. */
  drain: number;
  /** Pause between two passes of the reconciler. */
  reconcile: number;
  /** Back-off of an item after an infrastructure fault: doubles from first to last. */
  faultBackoffFirst: number;
  faultBackoffLast: number;
  /** A document on the web: to a connection with TLS; then the longest silence. */
  documentConnect: number;
  documentIdle: number;
  /** One call of a schedule's webhook; the pause before the second of three, which doubles. */
  webhook: number;
  webhookBackoff: number;
}

const normal: Timings = {
  lock: 60_000,
  extend: 15_000,
  leaseMargin: 5_000,
  stalled: 30_000,
  heartbeat: 2_000,
  heartbeatExpiry: 10_000,
  join: 90_000,
  abort: 10_000,
  prepare: 60_000,
  collective: 120_000,
  runBase: 120_000,
  runPerToken: 20,
  drain: 25_000,
  reconcile: 60_000,
  faultBackoffFirst: 1_000,
  faultBackoffLast: 60_000,
  documentConnect: 10_000,
  documentIdle: 30_000,
  webhook: 10_000,
  webhookBackoff: 2_000,
};

/** For tests and the embedded default: everything that waits, waits less. */
const fast: Timings = {
  ...normal,
  lock: 3_000,
  extend: 750,
  leaseMargin: 750,
  stalled: 1_000,
  heartbeat: 250,
  heartbeatExpiry: 1_500,
  join: 20_000,
  abort: 3_000,
  prepare: 15_000,
  collective: 30_000,
  drain: 5_000,
  reconcile: 1_000,
  faultBackoffFirst: 200,
  faultBackoffLast: 5_000,
  webhook: 1_000,
  webhookBackoff: 100,
};

export const timingProfiles = { normal, fast } as const;
export type TimingProfile = keyof typeof timingProfiles;
