/**
 * Two-stage shutdown of a process: the first SIGTERM or SIGINT aborts `signal`, so that work can
 * be drained; a second one ends the process at once with exit code 130.
 */
export function shutdownSignal(): { signal: AbortSignal; dispose: () => void } {
  const controller = new AbortController();
  const onSignal = () => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort(new Error('shutdown requested'));
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  return {
    signal: controller.signal,
    dispose: () => {
      process.off('SIGTERM', onSignal);
      process.off('SIGINT', onSignal);
    },
  };
}

/** Runs releasers in reverse order of registration, all of them, even when one fails. */
export class Releasers {
  private readonly stack: (() => unknown)[] = [];

  add(release: () => unknown): void {
    this.stack.push(release);
  }

  /** @throws AggregateError when one or more failed. */
  async run(): Promise<void> {
    const errors: unknown[] = [];
    for (let release = this.stack.pop(); release !== undefined; release = this.stack.pop()) {
      try {
        await release();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, 'shutdown was not clean');
  }
}
