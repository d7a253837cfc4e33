import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { Addon } from './bindings.js';
import { EngineError } from './errors.js';

/** The same distance from src/gpu-worker/engine and from dist/gpu-worker/engine. */
const path = fileURLToPath(new URL('../../../build/native/longhaul.node', import.meta.url));

let loaded: Addon | undefined;

/** Loads the native engine when it is first needed, so that other commands run without it. */
export function addon(): Addon {
  if (loaded) return loaded;
  if (!existsSync(path)) {
    throw new EngineError(
      'ENGINE_ADDON',
      `the native engine ${path} is not built; run \`longhaul engine build\``,
    );
  }
  try {
    loaded = createRequire(import.meta.url)(path) as Addon;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new EngineError(
      'ENGINE_ADDON',
      `the native engine ${path} cannot be loaded: ${why}; run \`longhaul engine build\` on this machine`,
      undefined,
      { cause },
    );
  }
  return loaded;
}
