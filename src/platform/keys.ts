/**
 * Every Redis and S3 key of longhaul.
 *
 * Redis (the queue prefix and the batch keys share one hash tag, each cohort has its own, so that
 * multi-key scripts work on Redis Cluster):
 *
 *   {longhaul}:documents, :outcomes, :finalise, :validate, :schedules   BullMQ queues
 *   {longhaul}:documents-<lane>                  the same as documents, of a lane
 *   {longhaul}:lanes                             set: every lane that batches were submitted to
 *   {longhaul}:batch:<id>                        hash: created_at, total, cancel_requested_at, counts
 *   {longhaul}:batch:<id>:outcomes               hash: ordinal -> outcome status
 *   {longhaul}:batches                           sorted set: batch id by creation time
 *   {longhaul}:item:<batch>:<index>              hash: engine_deaths, infrastructure_faults
 *   {longhaul}:turns:<queue>                     hash: the last turn given, by priority and by tenant
 *   {longhaul}:uncommitted                       answers waiting for S3, as counted by the aggregator
 *   {longhaul}:reconciler                        lock: which aggregator runs the reconciler's pass
 *   {longhaul}:cohorts                           sorted set: cohort name by when it last wrote its state
 *   {longhaul}:activity:<seconds>:<start>        hash: what was committed in that stretch of time, for people
 *   {longhaul}:incarnation                       drawn by the first reconciler; another value: Redis was emptied
 *   {longhaul}:gateway:<what>:<owner>:<stretch>  counter: what an owner's keys took in that stretch of time
 *   {cohort:<name>}:...                          one cohort's forming, heartbeats and control stream
 *
 * S3, below the configured prefix:
 *
 *   documents/<sha256>                           token ids, little-endian uint32
 *   batches/<id>/manifest.jsonl                  immutable, If-None-Match: *
 *   batches/<id>/items/<index>.json              immutable work items
 *   batches/<id>/outcomes/<ordinal>-<hash>.json  If-None-Match: *
 *   batches/<id>/timelines/<index>.json          when and how long ranks worked on an item, for people
 *   batches/<id>/cancel.json                     the wish to cancel, so that it outlives Redis
 *   batches/<id>/retries/<id>                    names a retry of this batch, written before the retry's manifest
 *   batches/<id>/output.jsonl, error.jsonl, _SUCCESS
 *   batches/<id>/then.json                       the second batch, over the answers of parts, If-None-Match: *
 *   idempotency/<sha256 of the key>.json         which batch a key of the person's stands for, If-None-Match: *
 *   dead/<id>/<index>.json                       what a work item did to the cohorts that it ended
 *
 * and of the gateway, where an owner is the name of an API key:
 *
 *   gateway/keys/<sha256 of the key>.json        whose it is, and its limits
 *   gateway/content/<owner>/<id>                 an uploaded file's bytes
 *   gateway/files/<owner>/<id>.json              what is known of a file, uploaded or made by a batch
 *   gateway/batches/<owner>/<id>.json            what was asked for
 *   gateway/pending/<owner>/<id>                 a batch whose file is not looked at yet, written before it
 *   gateway/failures/<owner>/<id>.json           why its file was refused
 *   gateway/claims/<owner>/<sha256>.json         what an Idempotency-Key stands for, If-None-Match: *
 *
 * and of schedules, where a run's name is its time:
 *
 *   schedules/<name>/schedule.json               what was asked for
 *   schedules/<name>/runs/<run>/run.json         somebody has started it, If-None-Match: *, like all of a run
 *   schedules/<name>/runs/<run>/plan.json        what it found, and what of it it takes
 *   schedules/<name>/runs/<run>/batch.json       its batch
 *   schedules/<name>/runs/<run>/end.json         how it ended
 *   schedules/<name>/runs/<run>/webhook.json     who was told that it failed
 *   digests/<name>/<run>.md, .jsonl              its digest, unless the schedule names another place
 */
import { createHash } from 'node:crypto';

/** BullMQ's `prefix`: keys become `{longhaul}:<queue>:...`. */
export const QUEUE_PREFIX = '{longhaul}';
export const QUEUES = {
  documents: 'documents',
  outcomes: 'outcomes',
  finalise: 'finalise',
  validate: 'validate',
  schedules: 'schedules',
} as const;

/** The queue that cohorts of a lane claim from. */
export const documentsQueue = (lane: string | undefined): string =>
  lane === undefined ? QUEUES.documents : `${QUEUES.documents}-${lane}`;

export const redisKeys = {
  batch: (id: string) => `${QUEUE_PREFIX}:batch:${id}`,
  batchOutcomes: (id: string) => `${QUEUE_PREFIX}:batch:${id}:outcomes`,
  batches: () => `${QUEUE_PREFIX}:batches`,
  item: (batch: string, index: number) => `${QUEUE_PREFIX}:item:${batch}:${index}`,
  turns: (queue: string) => `${QUEUE_PREFIX}:turns:${queue}`,
  lanes: () => `${QUEUE_PREFIX}:lanes`,
  uncommitted: () => `${QUEUE_PREFIX}:uncommitted`,
  cohorts: () => `${QUEUE_PREFIX}:cohorts`,
  activity: (seconds: number, start: number) => `${QUEUE_PREFIX}:activity:${seconds}:${start}`,
  reconciler: () => `${QUEUE_PREFIX}:reconciler`,
  incarnation: () => `${QUEUE_PREFIX}:incarnation`,
  gatewayCount: (what: string, owner: string, stretch: number) =>
    `${QUEUE_PREFIX}:gateway:${what}:${owner}:${stretch}`,
} as const;

export const cohortKeys = (name: string) => {
  const tag = `{cohort:${name}}`;
  return {
    /** Counter of generations. */
    generation: `${tag}:generation`,
    /** The generation that is valid now: `<counter>.<incarnation>`. */
    current: `${tag}:current`,
    /** Cohort state for people and `local up`: hash state, generation, ranks, model, backend, updated_at. */
    state: `${tag}:state`,
    rendezvous: (generation: string) => `${tag}:rendezvous:${generation}`,
    members: (generation: string) => `${tag}:members:${generation}`,
    seal: (generation: string) => `${tag}:seal:${generation}`,
    heartbeat: (generation: string, rank: number) => `${tag}:heartbeat:${generation}:${rank}`,
    /** Stream, leader to followers. */
    control: (generation: string) => `${tag}:control:${generation}`,
    /** Stream, followers to leader. */
    replies: (generation: string) => `${tag}:replies:${generation}`,
    abort: (generation: string) => `${tag}:abort:${generation}`,
    /** Hash: how often the cohort was lost, by cause. */
    losses: `${tag}:losses`,
  } as const;
};

/** BullMQ job ids: no `:` allowed, and not an integer. */
export const jobIds = {
  document: (batch: string, item: number) => `${batch}-${item}-document`,
  outcome: (batch: string, item: number) => `${batch}-${item}-outcome`,
  finalise: (batch: string) => `${batch}-finalise`,
  scheduleRun: (schedule: string, run: string) => `${schedule}-${run}`,
} as const;

export const objectKeys = {
  document: (sha256: string) => `documents/${sha256}`,
  batches: () => 'batches/',
  batch: (id: string) => `batches/${id}/`,
  manifest: (id: string) => `batches/${id}/manifest.jsonl`,
  item: (id: string, index: number) => `batches/${id}/items/${index}.json`,
  outcomes: (id: string) => `batches/${id}/outcomes/`,
  outcome: (id: string, ordinal: number, customId: string) => {
    const hash = createHash('sha256').update(customId).digest('hex').slice(0, 16);
    return `batches/${id}/outcomes/${String(ordinal).padStart(8, '0')}-${hash}.json`;
  },
  timeline: (id: string, index: number) => `batches/${id}/timelines/${index}.json`,
  cancel: (id: string) => `batches/${id}/cancel.json`,
  retries: (id: string) => `batches/${id}/retries/`,
  retry: (id: string, retry: string) => `batches/${id}/retries/${retry}`,
  output: (id: string) => `batches/${id}/output.jsonl`,
  error: (id: string) => `batches/${id}/error.jsonl`,
  success: (id: string) => `batches/${id}/_SUCCESS`,
  then: (id: string) => `batches/${id}/then.json`,
  idempotency: (key: string) => `idempotency/${createHash('sha256').update(key).digest('hex')}.json`,
  dead: () => 'dead/',
  deadOf: (batch: string) => `dead/${batch}/`,
  deadItem: (batch: string, index: number) => `dead/${batch}/${index}.json`,
} as const;

/** Of the gateway; `owner` and ids are checked before they come here. */
export const gatewayKeys = {
  keys: () => 'gateway/keys/',
  key: (sha256: string) => `gateway/keys/${sha256}.json`,
  content: (owner: string, id: string) => `gateway/content/${owner}/${id}`,
  files: (owner: string) => `gateway/files/${owner}/`,
  file: (owner: string, id: string) => `gateway/files/${owner}/${id}.json`,
  batches: (owner: string) => `gateway/batches/${owner}/`,
  batch: (owner: string, id: string) => `gateway/batches/${owner}/${id}.json`,
  allPending: () => 'gateway/pending/',
  pending: (owner: string, id: string) => `gateway/pending/${owner}/${id}`,
  failures: (owner: string) => `gateway/failures/${owner}/`,
  failure: (owner: string, id: string) => `gateway/failures/${owner}/${id}.json`,
  claim: (owner: string, kind: string, key: string) =>
    `gateway/claims/${owner}/${createHash('sha256').update(`${kind} ${key}`).digest('hex')}.json`,
} as const;

/** Of schedules; names and runs are checked before they come here. */
export const scheduleKeys = {
  schedules: () => 'schedules/',
  schedule: (name: string) => `schedules/${name}/schedule.json`,
  all: (name: string) => `schedules/${name}/`,
  runs: (name: string) => `schedules/${name}/runs/`,
  run: (name: string, run: string, part: 'run' | 'plan' | 'batch' | 'end' | 'webhook') =>
    `schedules/${name}/runs/${run}/${part}.json`,
  digests: (name: string) => `digests/${name}/`,
} as const;
