import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { FastifyAdapter } from '@bull-board/fastify';
import type { FastifyInstance } from 'fastify';
import { knownLanes } from '../batch/lanes.js';
import type { DashboardContext } from './context.js';
import { policy } from './policy.js';

/**
 * Bull Board twice: at `/queues` it shows, at `/queues-unlocked` it also changes, for as long as the
 * session has unlocked it (access.ts). A job changed by hand is one that longhaul's own protocol did
 * not expect; the reconciler puts right what it can.
 */
export async function registerBoard(app: FastifyInstance, { queues }: DashboardContext): Promise<void> {
  // A lane that comes later is shown from the next start on.
  const documents = (await knownLanes(queues.redis)).map(queues.lane);
  for (const [prefix, readOnlyMode] of [
    ['/queues', true],
    ['/queues-unlocked', false],
  ] as const) {
    const server = new FastifyAdapter().setBasePath(prefix);
    const shown = [...documents, queues.outcomes, queues.finalise];
    createBullBoard({
      queues: shown.map((queue) => new BullMQAdapter(queue, { readOnlyMode })),
      serverAdapter: server,
      options: { uiConfig: { boardTitle: readOnlyMode ? 'longhaul (read only)' : 'longhaul (unlocked)' } },
    });
    await app.register(async (scope) => {
      scope.addHook('onRequest', (_request, reply, done) => {
        // Its page makes style elements as it goes; scripts stay as strict as ours.
        void reply.header('content-security-policy', policy("'unsafe-inline'"));
        done();
      });
      scope.addHook('onSend', (_request, reply, payload, done) => {
        const isPage = String(reply.getHeader('content-type')).startsWith('text/html');
        done(null, isPage && typeof payload === 'string' ? withoutForeign(payload) : payload);
      });
      await scope.register(server.registerPlugin(), { prefix });
    });
  }
}

/** Its page asks another host for fonts and shows a first screen in inline styles, which our policy forbids. */
function withoutForeign(html: string): string {
  return html
    .replace(/<link [^>]*href="https?:\/\/[^>]*>/g, '')
    .replace(/<div id="root">[\s\S]*?<\/div>\s*(?=<script defer)/, '<div id="root"></div>');
}
