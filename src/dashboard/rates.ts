import type { Activity } from '../batch/activity.js';
import type { Rates } from './api.js';

/** Whole stretches of the last minute: the one that is not over yet would make every number too small. */
const STRETCHES = 6;

export function ratesOf({ seconds, points, causes }: Activity): Rates {
  const minute = points.slice(-STRETCHES - 1, -1);
  const over = minute.length * seconds;
  const sum = (pick: (point: (typeof minute)[number]) => number) =>
    minute.reduce((total, point) => total + pick(point), 0);
  const latest = [...points].reverse().find(({ latency_p50 }) => latency_p50 !== null);
  return {
    document_tokens_per_second: sum((point) => point.document_tokens) / over,
    answer_tokens_per_second: sum((point) => point.answer_tokens) / over,
    documents_per_minute: (sum((point) => point.documents) / over) * 60,
    latency_p50: latest?.latency_p50 ?? null,
    latency_p95: latest?.latency_p95 ?? null,
    causes,
  };
}
