import type { Command } from 'commander';
import { runAggregator } from '../aggregator/aggregator.js';
import { serviceCommand } from './service.js';

/** `longhaul aggregator` */
export function aggregatorCommand(): Command {
  const description = 'write answers to S3 and finish batches; run one or more of these';
  return serviceCommand('aggregator', description, runAggregator);
}
