/**
 * What a process counts and measures, for Prometheus. Every label has few values, all known beforehand: no ids of
 * batches, requests or documents. docs/metrics.md has the table, which a test holds against this file.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

export const registry = new Registry();
const registers = [registry];

/** Seconds from a fast call to one that ran into its retries. */
const CALL_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120];
/** Seconds from a short document on GPUs to a million tokens on a CPU, or a night in the queue. */
const WORK_SECONDS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000];

export const s3Duration = new Histogram({
  name: 'longhaul_s3_operation_duration_seconds',
  help: 'calls of S3 with their retries, by operation and result',
  labelNames: ['operation', 'result'] as const,
  buckets: CALL_SECONDS,
  registers,
});

export const phaseDuration = new Histogram({
  name: 'longhaul_phase_duration_seconds',
  help: "this rank's part of a work item: prepare, prefill, decode",
  labelNames: ['phase'] as const,
  buckets: WORK_SECONDS,
  registers,
});

export const prefillPartDuration = new Histogram({
  name: 'longhaul_prefill_part_duration_seconds',
  help: "parts of this rank's prefill, all layers together; not measured on GPUs",
  labelNames: ['part'] as const,
  buckets: WORK_SECONDS,
  registers,
});

export const passedBytes = new Counter({
  name: 'longhaul_passed_bytes_total',
  help: 'bytes of passing blocks that this rank sent to the other ranks of its cohort, and received from them',
  labelNames: ['direction'] as const,
  registers,
});

export const generation = new Gauge({
  name: 'longhaul_rank_generation',
  help: 'the generation that this rank belongs to; 0: none yet',
  registers,
});

export const requestsEnded = new Counter({
  name: 'longhaul_requests_total',
  help: 'requests whose outcome this aggregator committed',
  labelNames: ['outcome'] as const,
  registers,
});

export const documentsEnded = new Counter({
  name: 'longhaul_documents_total',
  help: 'work items (one document each) that this aggregator committed: answered when one of their requests is',
  labelNames: ['outcome'] as const,
  registers,
});

export const tokensEnded = new Counter({
  name: 'longhaul_tokens_total',
  help: 'tokens of committed requests: input is documents, each once per work item, and questions; output is answers',
  labelNames: ['gen_ai_token_type', 'outcome'] as const,
  registers,
});

export const serverDuration = new Histogram({
  name: 'gen_ai_server_request_duration_seconds',
  help: 'prefill and decode of a committed work item, as its leader measured them',
  labelNames: ['gen_ai_operation_name', 'gen_ai_provider_name'] as const,
  buckets: WORK_SECONDS,
  registers,
});

export const queueTime = new Histogram({
  name: 'longhaul_item_duration_seconds',
  help: 'a work item from queued to committed',
  buckets: WORK_SECONDS,
  registers,
});

export const deadItems = new Counter({
  name: 'longhaul_dead_items_total',
  help: 'work items that this aggregator committed as dead: they ended three cohorts',
  registers,
});

export const restoredItems = new Counter({
  name: 'longhaul_restored_items_total',
  help: "work items that this aggregator's reconciler enqueued: Redis had lost them, or a submit died half-way",
  registers,
});

/** Read from Redis when they are asked for, by an aggregator; every one tells the same. */
export const queueGauges = {
  items: new Gauge({
    name: 'longhaul_queue_items',
    help: 'work items by where they are: waiting, active, delayed, or uncommitted (answers not in S3 yet)',
    labelNames: ['state'] as const,
    registers,
  }),
  oldest: new Gauge({
    name: 'longhaul_queue_oldest_seconds',
    help: 'how long the work item that has waited longest has waited; 0: none waits',
    registers,
  }),
  cohorts: new Gauge({
    name: 'longhaul_cohorts',
    help: 'cohorts by the state that they last told, or silent: not heard of for 15 heartbeats',
    labelNames: ['state'] as const,
    registers,
  }),
  generation: new Gauge({
    name: 'longhaul_cohort_generation',
    help: 'how often a cohort has formed',
    labelNames: ['cohort'] as const,
    registers,
  }),
  losses: new Gauge({
    name: 'longhaul_cohort_losses',
    help: 'how often a cohort was lost, by cause (LEASE_LOST: its leader lost the lease of an item)',
    labelNames: ['cohort', 'cause'] as const,
    registers,
  }),
  memory: new Gauge({
    name: 'longhaul_redis_memory_bytes',
    help: 'of the Redis server: used, and its limit (maxmemory, or the memory of its machine)',
    labelNames: ['kind'] as const,
    registers,
  }),
};
