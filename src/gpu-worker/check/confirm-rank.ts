/** One rank of `engine confirm`, `bench` and `plan`, in a process of its own, for many documents; confirm-ranks.ts forks it. */
import { describeError } from '../../platform/errors.js';
import { Engine } from '../engine/engine.js';
import type { FromConfirmRank, ToConfirmRank } from './confirm-messages.js';

const connectDeadlineMs = 60_000;
/** More ranks than processors: one rank may wait long for the others' layers. */
const collectiveTimeoutMs = 600_000;

/** What answers the requests of one engine, in their order. */
function handler(engine: Engine): (request: ToConfirmRank) => Promise<FromConfirmRank> {
  let rank = 0;
  return async (request) => {
    switch (request.kind) {
      case 'start': {
        rank = request.rank;
        const { modelDir, threads, ranks, backend: name, precision } = request;
        const { backend, vocabulary } = await engine.load({
          modelDir,
          threads,
          backend: name,
          precision,
          gpu: rank,
        });
        const port = ranks > 1 ? await engine.listen('127.0.0.1') : 0;
        return { kind: 'started', backend, vocabulary, port };
      }
      case 'connect': {
        const { peers, secret } = request;
        const comm = await engine.connect({
          rank,
          peers,
          secret,
          deadlineMs: connectDeadlineMs,
          comm: 'auto',
        });
        return { kind: 'connected', comm };
      }
      case 'answer': {
        const { layout, head, block, query, maxNewTokens, eos } = request;
        await engine.prefill({ layout, head, block, query, collectiveTimeoutMs });
        const { tokens } = await engine.decode({ query, maxNewTokens, eos, collectiveTimeoutMs });
        return { kind: 'answered', tokens };
      }
      case 'rates':
        return { kind: 'rated', rates: await engine.measureRates() };
      case 'measure': {
        const { layout, head, block, query, select } = request;
        const start = performance.now();
        const before = process.cpuUsage();
        const phases = await engine.timedPrefill({
          layout,
          head,
          block,
          query,
          select,
          collectiveTimeoutMs,
        });
        const seconds = (performance.now() - start) / 1000;
        const { user, system } = process.cpuUsage(before);
        return {
          kind: 'measured',
          seconds,
          processorSeconds: (user + system) / 1e6,
          phases,
          peakRssBytes: process.resourceUsage().maxRSS * 1024,
        };
      }
    }
  };
}

const engine = Engine.create();
const handle = handler(engine);
const reply = (message: FromConfirmRank) => process.send?.(message, () => undefined); // gone: see below
process.on('disconnect', () => process.exit(1)); // the command is gone
process.on('message', (request: ToConfirmRank) => {
  handle(request).then(reply, (error: unknown) => reply({ kind: 'failed', ...describeError(error) }));
});
