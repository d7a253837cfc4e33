import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { armTestPoint, reach } from '../../src/platform/test-points.js';
import { tempDir } from '../support/services.js';

let folder: string | undefined;
afterEach(() => {
  vi.restoreAllMocks();
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});

it('a point kills who reaches it first, nobody while its marker is there, and again once it is removed', async () => {
  // Else this process would end.
  const kill = vi.spyOn(process, 'kill').mockReturnValue(true);
  folder = await tempDir('longhaul-test-point-');
  const marker = join(folder, 'reached, or not');
  writeFileSync(marker, '');
  armTestPoint({ testPoint: `prefill,SIGKILL,${marker}` });

  reach('prefill');
  rmSync(marker);
  reach('decode');
  expect(kill).not.toHaveBeenCalled();
  expect(existsSync(marker)).toBe(false);

  reach('prefill');
  reach('prefill');
  expect(kill.mock.calls).toEqual([[process.pid, 'SIGKILL']]);
  expect(readFileSync(marker, 'utf8')).toBe(String(process.pid));
});
