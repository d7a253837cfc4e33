import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

/**
 * The compiled twin of a source file (`src/cli/main.ts`), for tests that start processes. `make test` compiles
 * first; whoever runs a test alone after a change runs `make build` before it.
 */
export function compiled(source: string): string {
  const path = resolve(root, source.replace(/^src\//, 'dist/').replace(/\.ts$/, '.js'));
  if (!existsSync(path)) throw new Error(`${path} is missing; run: make build`);
  return path;
}
