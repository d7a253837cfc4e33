/** Chat templates, which are programs of whoever made the model, held to limits. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { ConfigError } from '../platform/errors.js';

/** A template that cannot be used: broken, hostile or made for something else. */
export class TemplateError extends ConfigError {
  override readonly code = 'CHAT_TEMPLATE';
}

export interface RenderInput {
  template: string;
  variables: Record<string, unknown>;
}

export interface RenderLimits {
  milliseconds: number;
  heapMegabytes: number;
  /** Of the answer in JSON. */
  outputBytes: number;
}

/** Real templates take a few milliseconds and kilobytes; starting the process takes most of the time. */
const LIMITS: RenderLimits = { milliseconds: 10_000, heapMegabytes: 64, outputBytes: 4 << 20 };

const answer = z.union([z.strictObject({ text: z.string() }), z.strictObject({ error: z.string() })]);

// Processes run compiled code, also where this file runs from source.
const folder = import.meta.url.endsWith('.ts') ? '../../dist/text/' : './';
const script = fileURLToPath(new URL(`${folder}render-child.js`, import.meta.url));

/**
 * The text of a template, rendered in a process of its own. `path` names it in errors.
 * @throws TemplateError when the template fails or passes a limit.
 */
export async function renderTemplate(
  path: string,
  input: RenderInput,
  limits: Partial<RenderLimits> = {},
): Promise<string> {
  const { milliseconds, heapMegabytes, outputBytes } = { ...LIMITS, ...limits };
  const remedy = 'write a longhaul.json beside it, or take the model from a source you trust';
  const child = spawn(process.execPath, [`--max-old-space-size=${heapMegabytes}`, script], {
    env: {},
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  let overrun: string | undefined;
  const stop = (limit: string) => {
    overrun ??= limit;
    child.kill('SIGKILL');
  };
  const timer = setTimeout(() => {
    stop(`runs for more than ${milliseconds} ms`);
  }, milliseconds);
  try {
    const parts: Buffer[] = [];
    let bytes = 0;
    child.stdout.on('data', (part: Buffer) => {
      bytes += part.length;
      if (bytes > outputBytes) stop(`writes more than ${outputBytes} bytes`);
      else parts.push(part);
    });
    const ended = new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    // The process may be gone before it has read all: its end says why.
    child.stdin.on('error', () => undefined);
    child.stdin.end(JSON.stringify(input));
    const code = await ended;
    if (overrun !== undefined) throw new TemplateError(`the chat template of ${path} ${overrun}; ${remedy}`);
    if (code !== 0) {
      throw new TemplateError(
        `the chat template of ${path} needs more than ${heapMegabytes} MB of memory or ends its process (exit code ${code ?? 'none'}); ${remedy}`,
      );
    }
    const parsed = answer.parse(JSON.parse(Buffer.concat(parts).toString('utf8')));
    if ('error' in parsed) {
      throw new TemplateError(`the chat template of ${path} fails (${parsed.error}); ${remedy}`);
    }
    return parsed.text;
  } finally {
    clearTimeout(timer);
    child.kill('SIGKILL');
  }
}
