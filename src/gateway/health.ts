import type { FastifyInstance } from 'fastify';
import { gatewayKeys } from '../platform/keys.js';
import { describeError } from '../platform/errors.js';
import type { GatewayContext } from './context.js';

const PATIENCE_MS = 2_000;
/** However often it is asked, Redis and S3 are asked once in this time. */
const FRESH_MS = 1_000;

interface Ready {
  status: 'ready' | 'unavailable' | 'draining';
  redis: boolean;
  s3: boolean;
}

/**
 * `/healthz`: the process answers; one that cannot reach Redis is not mended by a restart. `/readyz`: Redis and S3 are
 * reached too, and the process is not ending.
 */
export function registerHealth(app: FastifyInstance, context: GatewayContext): void {
  let last: { at: number; ready: Promise<Ready> } | undefined;
  app.get('/healthz', () => ({ status: 'ok' }));
  app.get('/readyz', async (_request, reply) => {
    if (last === undefined || performance.now() - last.at > FRESH_MS)
      last = { at: performance.now(), ready: check(context) };
    const ready = await last.ready;
    const status = context.signal.aborted ? 'draining' : ready.status;
    return reply.status(status === 'ready' ? 200 : 503).send({ ...ready, status });
  });
}

async function check({ redis, store, logger }: GatewayContext): Promise<Ready> {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const late = new Promise<never>((_resolve, reject) =>
    signal.addEventListener('abort', () => reject(signal.reason as Error)),
  );
  const reached = async (what: string, ask: Promise<unknown>): Promise<boolean> => {
    try {
      await Promise.race([ask, late]);
      return true;
    } catch (error) {
      logger.warn({ what, ...describeError(error) }, 'not reached');
      return false;
    }
  };
  const [redisReached, s3] = await Promise.all([
    reached('redis', redis.ping()),
    reached('s3', store.list(gatewayKeys.keys(), signal).next()),
  ]);
  return { status: redisReached && s3 ? 'ready' : 'unavailable', redis: redisReached, s3 };
}
