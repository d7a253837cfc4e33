import { InvalidArgumentError } from 'commander';

const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;
const MAX_SECONDS = 365 * SECONDS.d;

/** A completion window, `90m` or `24h`, in seconds. */
export function parseWindow(text: string): number {
  const [, number = '', unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  const seconds = Number(number) * (SECONDS[unit as keyof typeof SECONDS] ?? 0);
  if (!(seconds >= 1 && seconds <= MAX_SECONDS)) {
    throw new InvalidArgumentError('must be a whole number with s, m, h or d, up to 365d');
  }
  return seconds;
}
