import { pino, type Logger } from 'pino';
import type { Config } from './config.js';

export type { Logger };

/** JSON lines on stderr; `name` is the process's role. Bind batch, cohort, rank, generation, epoch as children. */
export function createLogger(name: string, config: Pick<Config, 'logLevel'>): Logger {
  return pino(
    { name, level: config.logLevel, base: { name, pid: process.pid } },
    pino.destination({ fd: 2, sync: true }),
  );
}
