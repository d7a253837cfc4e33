import type { Command } from 'commander';
import { runScheduler } from '../producer/schedule/scheduler.js';
import { serviceCommand } from './service.js';

/** `longhaul scheduler` */
export function schedulerCommand(): Command {
  const description = 'make batches and digests of schedules when they are due; run one or more of these';
  return serviceCommand('scheduler', description, runScheduler);
}
