/** Where an evaluation runs: the configured system, or one of its own that it starts for each number of ranks. */
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { down } from '../local/down.js';
import { engineIsBuilt } from '../local/native-engine.js';
import { up } from '../local/up.js';
import { loadConfig, type Config } from '../platform/config.js';
import { shutdownSignal } from '../platform/shutdown.js';
import { buildWithProgress } from './build-engine.js';
import { withBatchesOf } from './context.js';
import type { Serve } from './eval-run.js';

const UP_MS = 300_000;

/** Batches for another number of ranks than the configured cohort's wait until somebody starts one. */
export function configuredSystem(config: Config): Serve {
  return (ranks, use) => {
    if (ranks !== config.ranks) {
      process.stderr.write(`the next batches need a cohort of ${ranks} ranks; --local would start one\n`);
    }
    return withBatchesOf(config, use);
  };
}

/** In `folder`, with the configuration's model and backend. Batches stay there, so that a later run goes on. */
export function ownSystem(folder: string, config: Config): Serve {
  const dir = resolve(folder, 'local');
  return async (ranks, use) => {
    const report = (text: string) => void process.stderr.write(`local: ${text}\n`);
    try {
      const { signal, dispose } = shutdownSignal();
      let settings: string;
      try {
        if (!engineIsBuilt()) await buildWithProgress(signal);
        const { backend, comm, cpuPrecision, modelDir, headsFile, profile } = config;
        const threads = Math.max(1, Math.floor(availableParallelism() / ranks));
        const stack = { ranks, backend, threads, comm, cpuPrecision, modelDir, headsFile, profile };
        ({ settingsFile: settings } = await up({ ...stack, folder: dir, timeoutMs: UP_MS, report, signal }));
      } finally {
        dispose();
      }
      const own = loadConfig({ flags: { config: settings }, environment: {}, directory: dir });
      await withBatchesOf(own, use);
    } finally {
      await down(dir, report);
    }
  };
}
