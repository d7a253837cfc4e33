import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import cookie from '@fastify/cookie';
import files from '@fastify/static';
import { fastify, type FastifyError, type FastifyInstance } from 'fastify';
import { z } from 'zod';
import { describeError, LonghaulError } from '../platform/errors.js';
import { AccessError } from './access.js';
import { registerBoard } from './board.js';
import type { DashboardContext } from './context.js';
import { policy } from './policy.js';
import { registerRoutes } from './routes.js';

/** Built by `npm run build` from src/dashboard/web. */
const assets = fileURLToPath(new URL('web/', import.meta.url));

const HEADERS = {
  'content-security-policy': policy(),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
};

/** The HTTP server, not yet listening. */
export async function buildApp(context: DashboardContext): Promise<FastifyInstance> {
  const app = fastify({ bodyLimit: 64 * 1024, forceCloseConnections: true });
  await app.register(cookie);
  app.addHook('onRequest', (_request, reply, done) => {
    void reply.headers(HEADERS);
    done();
  });
  app.addHook('onRequest', (request, reply, done) => {
    // What a session may see is nobody else's; files with a hash in their name never change.
    const lasting = request.url.startsWith('/assets/');
    void reply.header('cache-control', lasting ? 'public, max-age=31536000, immutable' : 'no-store');
    done();
  });
  context.access.register(app);
  registerRoutes(app, context);
  await registerBoard(app, context);
  await registerPage(app, context);
  app.setNotFoundHandler((request, reply) =>
    reply.status(404).send({ code: 'NOT_FOUND', message: `there is nothing at ${request.url}` }),
  );
  app.setErrorHandler((error, _request, reply) => {
    const status = statusOf(error);
    if (status >= 500) context.logger.error({ err: error }, 'request failed');
    const { code, message } = describeError(error instanceof z.ZodError ? badRequest(error) : error);
    return reply.status(status).send({ code, message });
  });
  return app;
}

/** The page finds its way by itself, so each of its paths is the same file. */
async function registerPage(app: FastifyInstance, { logger }: DashboardContext): Promise<void> {
  const paths = ['/', '/batches', '/batches/*', '/cohorts', '/dead', '/board'];
  if (!existsSync(`${assets}index.html`)) {
    const missing = `the dashboard's page is not built: ${assets}index.html is missing; run \`make build\``;
    logger.error(missing);
    for (const path of paths) app.get(path, (_request, reply) => reply.status(503).send(missing));
    return;
  }
  await app.register(files, { root: assets, cacheControl: false, index: false });
  for (const path of paths) app.get(path, (_request, reply) => reply.sendFile('index.html'));
}

const badRequest = (error: z.ZodError): LonghaulError =>
  new LonghaulError('BAD_REQUEST', z.prettifyError(error));

function statusOf(error: unknown): number {
  if (error instanceof z.ZodError) return 400;
  if (error instanceof AccessError) return error.statusCode;
  if (error instanceof LonghaulError) {
    switch (error.code) {
      case 'NOT_FOUND':
        return 404;
      case 'BATCH_FINISHED':
      case 'NOT_FINISHED':
      case 'NOTHING_TO_RETRY':
      case 'DOCUMENT_GONE':
      case 'HALF_REMOVED':
      case 'CONFLICT':
        return 409;
      default:
        return 500;
    }
  }
  return (error as Partial<FastifyError>).statusCode ?? 500;
}
