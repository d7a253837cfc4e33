import { InvalidArgumentError } from 'commander';
import { windowSeconds } from '../batch/window.js';

/** A completion window, `90m` or `24h`, in seconds. */
export function parseWindow(text: string): number {
  const seconds = windowSeconds(text);
  if (seconds === undefined) {
    throw new InvalidArgumentError('must be a whole number with s, m, h or d, up to 365d');
  }
  return seconds;
}
