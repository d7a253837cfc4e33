import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import multipart from '@fastify/multipart';
import {
  fastify,
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify';
import { z } from 'zod';
import type { Config } from '../platform/config.js';
import type { Readiness } from '../platform/readiness.js';
import { ConfigError, describeError, InfrastructureError, LonghaulError } from '../platform/errors.js';
import { ApiError } from './api-error.js';
import type { ApiKey } from './api-keys.js';
import type { GatewayContext } from './context.js';
import { registerHealth } from './health.js';
import { countRequest } from './limits.js';
import { openApi } from './openapi.js';
import { checkId, operations, type Operation } from './operations.js';

/** A connection on which nothing moves for this long is hung up. */
const IDLE_MS = 120_000;

declare module 'fastify' {
  interface FastifyRequest {
    apiKey: ApiKey | undefined;
  }
}

/** The HTTP server, not yet listening. @throws ConfigError for certificates that cannot be used. */
export async function buildApp(context: GatewayContext, readiness: Readiness): Promise<FastifyInstance> {
  const options = {
    bodyLimit: 64 * 1024,
    connectionTimeout: IDLE_MS,
    // Idle ones alone: a drain lets calls under way end.
    forceCloseConnections: 'idle' as const,
    genReqId: () => `req_${randomUUID().replaceAll('-', '')}`,
  };
  const tls = readTls(context.config);
  // The types of a server with TLS and of one without have nothing in common but what is used here.
  const app =
    tls === undefined
      ? fastify(options)
      : (fastify({ ...options, https: tls }) as unknown as FastifyInstance);
  await app.register(multipart, { throwFileSizeLimit: false });
  app.decorateRequest('apiKey', undefined);
  app.addHook('onRequest', async (request, reply) => {
    void reply.headers({
      'x-request-id': request.id,
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store',
    });
    if (!request.url.startsWith('/v1/')) return;
    request.apiKey = await authenticate(context, request);
    void reply.headers(await countRequest(context.redis, request.apiKey));
  });
  app.addHook('onSend', (_request, reply, _payload, done) => {
    // A connection that is kept alive would keep a drain waiting.
    if (context.signal.aborted) void reply.header('connection', 'close');
    done();
  });
  app.addHook('onResponse', (request, reply, done) => {
    const { method, id } = request;
    const url = request.routeOptions.url ?? 'unknown';
    const { statusCode: status, elapsedTime } = reply;
    const call = { request: id, method, url, status, ms: Math.round(elapsedTime), key: request.apiKey?.id };
    context.logger.info(call, 'call');
    done();
  });
  app.setErrorHandler((error, request, reply) => answerError(context, error, request, reply));
  app.setNotFoundHandler((request, reply) => {
    const message = `there is nothing at ${request.method} ${request.url.split('?', 1)[0]}`;
    return answerError(context, new ApiError(404, 'unknown_url', message), request, reply);
  });
  registerHealth(app, readiness);
  const description = openApi();
  app.get('/openapi.json', () => description);
  for (const operation of operations) register(app, context, operation);
  return app;
}

function readTls({ gatewayTlsCert, gatewayTlsKey }: Config): { cert: Buffer; key: Buffer } | undefined {
  if (gatewayTlsCert === undefined && gatewayTlsKey === undefined) return undefined;
  if (gatewayTlsCert === undefined || gatewayTlsKey === undefined)
    throw new ConfigError('gatewayTlsCert and gatewayTlsKey belong together; give both PEM files, or none');
  try {
    return { cert: readFileSync(gatewayTlsCert), key: readFileSync(gatewayTlsKey) };
  } catch (cause) {
    throw new ConfigError(
      `${gatewayTlsCert} and ${gatewayTlsKey} cannot both be read; correct gatewayTlsCert and gatewayTlsKey`,
      { cause },
    );
  }
}

async function authenticate({ keys }: GatewayContext, { headers }: FastifyRequest): Promise<ApiKey> {
  const [, secret] = /^Bearer (\S+)$/i.exec(headers.authorization ?? '') ?? [];
  const found = secret === undefined ? undefined : await keys.find(secret);
  if (found !== undefined) return found;
  throw secret === undefined
    ? new ApiError(401, 'missing_api_key', 'send an API key: Authorization: Bearer lh-...')
    : new ApiError(401, 'invalid_api_key', 'that is no API key, or one that was revoked');
}

function register(app: FastifyInstance, context: GatewayContext, operation: Operation): void {
  const { method, path, of, query, body } = operation;
  app.route({
    method,
    url: path.replace('{id}', ':id'),
    handler: async (request, reply) => {
      const key = request.apiKey;
      if (key === undefined) throw new ApiError(401, 'missing_api_key', 'send an API key');
      const idempotencyKey = request.headers['idempotency-key'];
      return operation.handle({
        context,
        key,
        id: of === undefined ? '' : checkId(of, (request.params as { id: string }).id),
        query: query?.parse(request.query),
        body: body?.parse(request.body ?? {}),
        idempotencyKey: typeof idempotencyKey === 'string' ? idempotencyKey : undefined,
        request,
        reply,
      });
    },
  });
}

function answerError(
  { logger }: GatewayContext,
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  // An upload that is refused has more to come: it is passed over, so that the answer can be read.
  request.raw.unpipe();
  request.raw.resume();
  const told = translate(error);
  if (told.status >= 500) logger.error({ request: request.id, ...describeError(error) }, 'call failed');
  return reply.status(told.status).headers(told.headers).type('application/json').send(JSON.stringify(told));
}

/** What of an error the caller is told: of ours, nothing. */
function translate(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof z.ZodError) {
    const [issue] = error.issues;
    const unknown = issue?.code === 'unrecognized_keys' ? issue.keys : [];
    const param = [...(issue?.path ?? []), ...unknown.slice(0, 1)].join('.');
    const code = unknown.length > 0 ? 'unknown_parameter' : 'invalid_value';
    return new ApiError(
      400,
      code,
      `${param === '' ? 'the request' : param}: ${issue?.message ?? 'is refused'}`,
      {
        param,
      },
    );
  }
  const { statusCode, code, message } = error as Partial<FastifyError>;
  if (!(error instanceof LonghaulError) && statusCode !== undefined && statusCode < 500)
    return new ApiError(statusCode, (code ?? 'invalid_request').toLowerCase(), message ?? 'is refused');
  return error instanceof InfrastructureError || isRedisAway(error)
    ? new ApiError(503, 'unavailable', 'the gateway does not reach its Redis or its S3; try again', {
        headers: { 'retry-after': '1' },
      })
    : new ApiError(500, 'internal_error', 'the gateway failed; its log has the cause');
}

/** ioredis has no class for these. */
function isRedisAway(error: unknown): boolean {
  return (
    error instanceof Error &&
    /MaxRetriesPerRequest|Command timed out|Connection is closed/.test(`${error.name} ${error.message}`)
  );
}
