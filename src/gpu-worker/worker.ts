/**
 * One rank process: load the model, form the cohort, serve until asked to stop or until the cohort is
 * lost. Returns the exit code: 0 when this process was asked to stop, 75 when the cohort has
 * to form anew (the supervisor restarts all ranks).
 */
import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { Config } from '../platform/config.js';
import { ConfigError, describeError, InfrastructureError } from '../platform/errors.js';
import type { Logger } from '../platform/logger.js';
import { generation } from '../platform/metrics.js';
import { startMonitor } from '../platform/monitor.js';
import { batchNeeds } from '../platform/readiness.js';
import { ObjectStore } from '../platform/object-store.js';
import { checkRedis, createRedis } from '../platform/redis.js';
import { armTestPoint } from '../platform/test-points.js';
import { Releasers } from '../platform/shutdown.js';
import { VERSION } from '../platform/version.js';
import { modelDigests } from '../text/model-digests.js';
import { loadTokenizer } from '../text/tokenizer.js';
import { Engine, planLayout } from './engine/engine.js';
import type { Phase } from './protocol-types.js';
import { serve } from './serve.js';
import { within } from './wait.js';

export const EXIT_FORM_ANEW = 75;

/** Phases of a rank whose cohort can answer. */
const SERVING = new Set<string>(['ready', 'preparing', 'running'] satisfies Phase[]);

export async function runWorker(config: Config, logger: Logger, signal: AbortSignal): Promise<number> {
  const releasers = new Releasers();
  armTestPoint(config, logger);
  try {
    const redis = openRedis(config, releasers);
    await checkRedis(redis, config.redisUrl);
    const store = new ObjectStore(config);
    releasers.add(() => {
      store.close();
    });
    let phase = 'loading';
    const stopMonitor = await startMonitor({
      config,
      logger,
      signal,
      offset: config.metricsPortByRank ? config.rank : 0,
      needs: {
        ...batchNeeds(redis, store),
        cohort: () =>
          SERVING.has(phase)
            ? Promise.resolve()
            : Promise.reject(new InfrastructureError('NOT_FORMED', `this rank of the cohort is ${phase}`)),
      },
    });
    releasers.add(stopMonitor);
    const engine = Engine.create();
    releasers.add(() => within(engine.dispose(), config.timings.abort, undefined));
    const { modelDir, headsFile, backend, threads, cpuPrecision, rank, ranks, host, port } = config;
    const { gpu = rank, cudaLibrary, cublasLt, documentMemoryMb } = config;
    const [facts, digests, tokenizer] = await Promise.all([
      engine.load({
        modelDir,
        headsFile,
        backend,
        threads,
        precision: cpuPrecision,
        documentMemory: documentMemoryMb && documentMemoryMb * 1024 ** 2,
        gpu,
        cudaLibrary,
        cublasLt,
        signal,
      }),
      modelDigests(modelDir, headsFile, { signal }),
      rank === 0 ? loadTokenizer(modelDir) : undefined,
    ]);
    logger.info({ ranks, backend: facts.backend, model: digests.model.slice(0, 12) }, 'model loaded');
    const rates = await engine.measureRates();
    logger.info({ ...rates }, 'rates measured');
    // A rank alone needs no listener; 0 is never dialled.
    const bound = ranks === 1 ? 0 : await engine.listen(host, port);
    const clean = await serve(
      {
        config,
        redis,
        store,
        engine,
        planLayout,
        facts,
        digests,
        tokenizer,
        logger,
        self: {
          incarnation: randomBytes(8).toString('hex'),
          address: `${host}:${bound}`,
          pid: process.pid,
          rates,
        },
        fingerprint: {
          ranks,
          ...digests,
          // Its first word: machines of one cohort may differ in vector width, not in kind.
          backend: facts.backend.split(' ')[0] ?? facts.backend,
          version: VERSION,
        },
        openReader: () => createRedis(config.redisUrl, 'command'),
        onState: (state) => {
          phase = state.phase;
          generation.set(Number.parseInt(state.generation ?? '0', 10));
        },
      },
      signal,
    );
    return clean && signal.aborted ? 0 : EXIT_FORM_ANEW;
  } catch (error) {
    if (signal.aborted) return 0;
    if (error instanceof ConfigError) throw error;
    const { code, message } = describeError(error);
    if (code.startsWith('ENGINE_')) throw error;
    logger.error({ code, err: error }, message);
    return EXIT_FORM_ANEW;
  } finally {
    await releasers.run().catch((error: unknown) => {
      logger.warn({ err: error }, 'not all was released');
    });
  }
}

/** A call that Redis does not answer before others would take us for dead is a failed call. */
function openRedis(config: Config, releasers: Releasers): Redis {
  const redis = createRedis(config.redisUrl, 'command', { commandTimeout: config.timings.heartbeatExpiry });
  releasers.add(() => {
    redis.disconnect();
  });
  return redis;
}
