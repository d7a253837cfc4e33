/** The native engine's build as a person sees it: a bar on a terminal, a line every ten seconds elsewhere; on stderr. */
import { Presets, SingleBar } from 'cli-progress';
import { buildEngine } from '../local/native-engine.js';

export async function buildWithProgress(signal: AbortSignal): Promise<void> {
  const bar = new SingleBar(
    {
      format: 'building the native engine: {bar} {value}/{total} files, {duration_formatted}',
      stream: process.stderr,
      hideCursor: true,
      gracefulExit: false,
      noTTYOutput: true,
      notTTYSchedule: 10_000,
    },
    Presets.shades_classic,
  );
  let started = false;
  const onProgress = ({ done, total }: { done: number; total: number }) => {
    if (total === 0) return;
    if (started) bar.update(done);
    else bar.start(total, done);
    started = true;
  };
  try {
    await buildEngine({ onProgress, signal });
  } finally {
    if (started) bar.stop();
  }
}
