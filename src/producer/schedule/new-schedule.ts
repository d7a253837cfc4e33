/** A schedule from what the person named; pure but for the clock. */
import { DEFAULT_OVERLAP, schedule, type Schedule } from '../../contracts/schedule.js';
import { ConfigError } from '../../platform/errors.js';
import { unixNow } from '../../batch/flags.js';
import { checkClock } from './times.js';
import { checkWebhook } from './webhook.js';

export interface NewSchedule {
  name: string;
  cron: string;
  tz: string;
  input: string;
  prompt: string;
  maxTokens: number;
  overlap?: number;
  thenPrompt?: string;
  all?: boolean;
  out?: string;
  webhook?: string;
  priority: number;
}

/** Bytes as JSON: it stands in the header of a manifest, which is read at one go. */
const THEN_PROMPT_MOST = 8192;

/** @throws ConfigError naming the option that is wrong. */
export function newSchedule(named: NewSchedule): Schedule {
  const {
    name,
    cron,
    tz,
    input,
    maxTokens,
    overlap = DEFAULT_OVERLAP,
    all = false,
    out,
    webhook,
    priority,
  } = named;
  if (!schedule.shape.name.safeParse(name).success) {
    throw new ConfigError(`the name ${name} must be a letter, then up to 63 letters, digits, - and _`);
  }
  checkClock({ cron, tz });
  checkFolder('--input', input);
  if (out !== undefined) checkFolder('--out', out);
  if (out?.startsWith(input) === true) {
    throw new ConfigError(
      `--out ${out} lies below --input, so that digests would be documents; choose another place`,
    );
  }
  if (webhook !== undefined) checkWebhook(webhook);
  if (maxTokens < 1) throw new ConfigError(`--max-tokens ${maxTokens} must be at least 1`);
  const prompt = named.prompt.trim();
  if (prompt === '') throw new ConfigError('the file of --prompt is empty; write the question into it');
  const thenPrompt = named.thenPrompt?.trim();
  if (thenPrompt === '')
    throw new ConfigError('the file of --then-prompt is empty; write the question into it');
  if (thenPrompt !== undefined && Buffer.byteLength(JSON.stringify(thenPrompt)) > THEN_PROMPT_MOST) {
    throw new ConfigError(
      `the question of --then-prompt has more than ${THEN_PROMPT_MOST} bytes; shorten it`,
    );
  }
  return {
    format: 'longhaul-schedule/1',
    name,
    cron,
    tz,
    input,
    prompt,
    max_tokens: maxTokens,
    overlap,
    then_prompt: thenPrompt ?? null,
    all,
    out: out ?? null,
    webhook: webhook ?? null,
    priority,
    paused: false,
    active_since: unixNow(),
  };
}

function checkFolder(option: string, url: string): void {
  if (/^s3:\/\/[^/]+\/(.+\/)?$/s.test(url)) return;
  throw new ConfigError(`${option} ${url} must be s3://bucket/prefix/ and end with /`);
}
