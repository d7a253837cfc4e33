/** What the page asks for, and what it may have done. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { readActivity } from '../batch/activity.js';
import { cancelBatch } from '../batch/cancel.js';
import { listDead, redriveDead } from '../batch/dead.js';
import { retryBatch, RETRYABLE } from '../batch/retry.js';
import type { Done } from './api.js';
import { batchDetail } from './batch-detail.js';
import type { DashboardContext } from './context.js';
import { Documents } from './documents.js';
import { MAX_WATCHED } from './live.js';

const page = {
  offset: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).max(100).default(50),
  search: z.string().min(1).max(200).optional(),
};
const batchQuery = z.object({ ...page, state: z.string().max(20).optional() });
const documentQuery = z.object({
  ...page,
  state: z
    .enum(['answered', 'failed', 'cancelled', 'expired', 'waiting', 'running', 'given back'])
    .optional(),
});
const batchParams = z.object({ id: z.string().max(128) });
const itemParams = batchParams.extend({ item: z.coerce.number().int().min(0) });
/** Charts: how long, in how many points. */
const ranges = { '15m': [15, 90], '1h': [60, 60], '24h': [1440, 96] } as const;
const activityQuery = z.object({ range: z.enum(['15m', '1h', '24h']).default('15m') });
const liveQuery = z.object({
  watch: z
    .string()
    .max(150 * MAX_WATCHED)
    .default('')
    .transform((ids) => ids.split(',').filter(Boolean).slice(0, MAX_WATCHED)),
});
const retryBody = z.strictObject({
  only: z
    .array(z.enum(['failed', 'expired', 'cancelled']))
    .min(1)
    .optional(),
});
const redriveBody = z.strictObject({ item: z.int().min(0).optional() });

const plural = (count: number, noun: string) => `${count} ${noun}${count === 1 ? '' : 's'}`;
const MAX_DEAD = 500;

export function registerRoutes(app: FastifyInstance, context: DashboardContext): void {
  const { index, live, access, manifests, redis, logger } = context;
  const documents = new Documents(context, manifests);

  app.get('/api/live', (request, reply) => {
    const { watch } = liveQuery.parse(request.query);
    reply.hijack();
    live.open(reply.raw, watch, () => access.session(request) !== undefined);
  });
  app.get('/api/activity', (request) => {
    const [minutes, points] = ranges[activityQuery.parse(request.query).range];
    return readActivity(redis, minutes, points);
  });
  app.get('/api/batches', async (request) => {
    const query = batchQuery.parse(request.query);
    await index.refresh(500);
    return index.page(query);
  });
  app.get('/api/batches/:id', (request) => batchDetail(context, batchParams.parse(request.params).id));
  app.get('/api/batches/:id/documents', (request) =>
    documents.page(batchParams.parse(request.params).id, documentQuery.parse(request.query)),
  );
  app.get('/api/batches/:id/documents/:item', (request) => {
    const { id, item } = itemParams.parse(request.params);
    return documents.detail(id, item);
  });
  app.get('/api/dead', () => listDead(context, { limit: MAX_DEAD }));

  app.post('/api/batches/:id/cancel', async (request): Promise<Done> => {
    const { id } = batchParams.parse(request.params);
    const { request_counts: counts } = await cancelBatch(context, id);
    logger.info({ batch: id }, 'cancelled from the dashboard');
    return { message: `Cancelling; ${plural(counts.answered, 'answer')} made so far stay.` };
  });
  app.post('/api/batches/:id/retry', async (request): Promise<Done> => {
    const { id } = batchParams.parse(request.params);
    const { only } = retryBody.parse(request.body ?? {});
    const retried = await retryBatch(context, id, { only: only ?? RETRYABLE });
    logger.info({ batch: id, retry: retried.id }, 'retried from the dashboard');
    const requests = plural(retried.header.totals.requests, 'request');
    const message = retried.created
      ? `A new batch retries ${requests}.`
      : `The same ${requests} had been retried before, in this batch.`;
    return { message, batch: retried.id };
  });
  app.post('/api/batches/:id/redrive', async (request): Promise<Done> => {
    const { id } = batchParams.parse(request.params);
    const { item } = redriveBody.parse(request.body ?? {});
    const retried = await redriveDead(context, item === undefined ? id : `${id}/${item}`);
    logger.info({ batch: id, item, retry: retried.id }, 'redriven from the dashboard');
    const requests = plural(retried.header.totals.requests, 'request');
    const message = retried.created
      ? `A new batch redrives ${requests}.`
      : `The same ${requests} had been redriven before, in this batch.`;
    return { message, batch: retried.id };
  });
}
