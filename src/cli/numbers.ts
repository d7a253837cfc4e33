import { InvalidArgumentError } from 'commander';

/** Parsers of option values, for commander. */
export function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('must be a whole number');
  return Number(text);
}

export function hours(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 24 * 365)) throw new InvalidArgumentError('must be above 0 and at most 8760');
  return value;
}
