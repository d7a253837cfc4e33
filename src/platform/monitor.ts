import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Config } from './config.js';
import { ConfigError, describeError } from './errors.js';
import type { Logger } from './logger.js';
import { registry } from './metrics.js';
import { Readiness, type Needs } from './readiness.js';

export interface MonitorOptions {
  config: Pick<Config, 'metricsHost' | 'metricsPort'>;
  logger: Logger;
  /** Aborted when the process is to end: `/readyz` says no. */
  signal: AbortSignal;
  needs: Needs;
  /** Added to the port: ranks of one machine share a configuration. */
  offset?: number;
  /** Brings gauges up to date before they are told, and may add metrics of others in Prometheus' text format. */
  refresh?: () => Promise<string>;
}

/**
 * Serves `/metrics`, `/healthz` (the process answers) and `/readyz` (what it needs is there) on a port of their own
 * where `metricsPort` is given; returns how to end it.
 * @throws ConfigError for a port that is taken.
 */
export async function startMonitor(options: MonitorOptions): Promise<() => void> {
  const { config, logger, signal, needs, offset = 0 } = options;
  const { metricsHost: host, metricsPort } = config;
  if (metricsPort === undefined) return () => undefined;
  const port = metricsPort === 0 ? 0 : metricsPort + offset;
  const readiness = new Readiness(needs, logger, signal);
  const server = createServer((request, response) => {
    void reply(request.url ?? '', response, readiness, options.refresh).catch((error: unknown) => {
      const { message } = describeError(error);
      logger.warn({ err: error }, 'metrics not told');
      if (!response.headersSent) response.writeHead(503, { 'content-type': 'text/plain' });
      response.end(`${message}\n`);
    });
  });
  try {
    await once(server.listen(port, host), 'listening');
  } catch (cause) {
    const remedy = 'free it or choose another with metricsHost and metricsPort (0: any)';
    throw new ConfigError(`metrics cannot be served on ${host} port ${port}; ${remedy}`, { cause });
  }
  logger.info({ host, port: (server.address() as AddressInfo).port }, 'metrics served');
  return () => {
    server.close();
    server.closeAllConnections();
  };
}

async function reply(
  url: string,
  response: ServerResponse,
  readiness: Readiness,
  refresh: MonitorOptions['refresh'],
): Promise<void> {
  const json = (status: number, value: object) =>
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
  switch (url) {
    case '/healthz':
      json(200, { status: 'ok' });
      return;
    case '/readyz': {
      const ready = await readiness.check();
      json(ready.status === 'ready' ? 200 : 503, ready);
      return;
    }
    case '/metrics': {
      const more = (await refresh?.()) ?? '';
      response.writeHead(200, { 'content-type': registry.contentType });
      response.end((await registry.metrics()) + more);
      return;
    }
    default:
      json(404, { code: 'NOT_FOUND', message: 'there are /metrics, /healthz and /readyz' });
  }
}
