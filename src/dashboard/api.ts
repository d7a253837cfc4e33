/** What travels between the dashboard's server and its page. Types only: the page is another program. */
import type { ActivityPoint } from '../batch/activity.js';
import type { Cohort } from '../batch/cohorts.js';
import type { QueueState } from '../batch/queue-state.js';
import type { RankReport } from '../contracts/cohort.js';
import type { DeadItem } from '../contracts/dead.js';
import type { ManifestHeader } from '../contracts/manifest.js';
import type { Outcome, OutcomeStatus } from '../contracts/outcome.js';
import type { BatchStatus, RequestCounts } from '../contracts/status.js';
import type { ItemTimeline } from '../contracts/timeline.js';

export type { Activity, ActivityPoint } from '../batch/activity.js';
export type { Cohort, QueueState, RankReport, DeadItem, ItemTimeline, RequestCounts, Outcome };

export interface Session {
  /** False: a password is asked for first. */
  signedIn: boolean;
  /** A password is set, so there is something to sign out of. */
  password: boolean;
  /** To be sent back with everything that changes something. */
  csrf: string | null;
  version: string;
  /** Unix milliseconds until which Bull Board may change queues; null: it only shows them. */
  queuesUnlockedUntil: number | null;
}

export interface BatchRow {
  id: string;
  input: string;
  status: BatchStatus['status'];
  /** Unix seconds. */
  created_at: number;
  completed_at: number | null;
  expires_at: number | null;
  counts: RequestCounts;
  /** Requests per second; null: not known yet. */
  rate: number | null;
  /** Seconds; null: not known. */
  eta: number | null;
}

export interface BatchPage {
  total: number;
  offset: number;
  rows: BatchRow[];
}

/** The last minute, and failures of the last quarter of an hour. */
export interface Rates {
  document_tokens_per_second: number;
  answer_tokens_per_second: number;
  documents_per_minute: number;
  latency_p50: number | null;
  latency_p95: number | null;
  causes: { code: string; count: number }[];
}

/** One change of what is shown live, by its key; null: it is gone. */
export interface LiveValues {
  /** Null: all is well. */
  problem: string | null;
  queue: QueueState;
  rates: Rates;
  /** The two newest stretches of ten seconds. */
  points: ActivityPoint[];
  batches: { total: number; unfinished: number; recent: BatchRow[] };
  [cohort: `cohort:${string}`]: Cohort | null;
  /** `rank:<cohort>:<rank>`; null: no heartbeat. */
  [rank: `rank:${string}`]: RankReport | null;
  [batch: `batch:${string}`]: BatchRow | null;
}

export interface LiveMessage {
  /** The server's clock, Unix milliseconds. */
  now: number;
  patch: Record<string, unknown>;
}

export interface BatchDetail {
  row: BatchRow;
  header: Pick<ManifestHeader, 'options' | 'totals' | 'retry_of' | 'priority'>;
  cancel_requested_at: number | null;
  active: BatchStatus['active'];
  given_back: BatchStatus['given_back'];
  usage: BatchStatus['usage'];
  work: BatchStatus['work'];
  /** The second batch over the answers of parts, and the first of such a one. */
  then: BatchStatus['then'];
  then_of: BatchStatus['then_of'];
  retries: { id: string; created_at: number; requests: number }[];
  dead: DeadItem[];
  /** `s3://` places of manifest, output, errors and `_SUCCESS`; the last three once the batch has ended. */
  files: { name: string; url: string }[];
}

export type DocumentState = OutcomeStatus | 'waiting' | 'running' | 'given back';

export interface DocumentRow {
  item: number;
  sha256: string;
  tokens: number;
  requests: number;
  custom_id: string;
  state: DocumentState;
}

export interface DocumentPage {
  total: number;
  offset: number;
  rows: DocumentRow[];
}

export interface DocumentDetail {
  batch_id: string;
  input: string;
  item: number;
  items: number;
  state: DocumentState;
  document: { sha256: string; tokens: number; url: string };
  requests: {
    ordinal: number;
    custom_id: string;
    questions: string[];
    max_tokens: number;
    outcome: Outcome | null;
    url: string;
  }[];
  /** While its job is in Redis. */
  running: BatchStatus['active'][number] | null;
  given_back: BatchStatus['given_back'][number] | null;
  queued_at: number | null;
  timeline: ItemTimeline | null;
  /** Unix milliseconds at which S3 had the first outcome. */
  committed_at: number | null;
  dead: DeadItem | null;
}

export interface Done {
  /** What was done, for people. */
  message: string;
  /** The batch that it made. */
  batch?: string;
}
