import type { FastifyInstance } from 'fastify';
import { gatewayKeys } from '../platform/keys.js';
import type { Needs, Readiness } from '../platform/readiness.js';
import type { GatewayContext } from './context.js';

/** What the gateway cannot do without. */
export const gatewayNeeds = ({ redis, store }: Pick<GatewayContext, 'redis' | 'store'>): Needs => ({
  redis: () => redis.ping(),
  s3: (signal) => store.list(gatewayKeys.keys(), signal).next(),
});

/**
 * `/healthz`: the process answers; one that cannot reach Redis is not mended by a restart. `/readyz`: Redis and S3 are
 * reached too, and the process is not ending.
 */
export function registerHealth(app: FastifyInstance, readiness: Readiness): void {
  app.get('/healthz', () => ({ status: 'ok' }));
  app.get('/readyz', async (_request, reply) => {
    const ready = await readiness.check();
    return reply.status(ready.status === 'ready' ? 200 : 503).send(ready);
  });
}
