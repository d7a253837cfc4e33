import { LonghaulError } from '../platform/errors.js';
import type { Layout } from './layout.js';
import { lockFile } from './lock-file.js';

/** Two commands that start or stop one stack at the same time would undo each other's work. */
export function lockCommands(paths: Layout): Promise<() => Promise<void>> {
  return lockFile(
    paths.lock,
    (pid) =>
      new LonghaulError(
        'LOCAL_BUSY',
        `Another \`longhaul local\` command (process ${pid}) works on ${paths.dir}; wait for it.`,
      ),
  );
}
