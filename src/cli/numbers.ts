import { InvalidArgumentError } from 'commander';

/** Parsers of option values, for commander. */
export function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('must be a whole number');
  return Number(text);
}

export function wholeFromOne(text: string): number {
  const value = wholeNumber(text);
  if (value === 0) throw new InvalidArgumentError('must be 1 or more');
  return value;
}

/** Up to a petabyte. */
export function wholeBytes(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('must be a whole number of bytes');
  return Number(text);
}

export function wholePriority(text: string): number {
  if (!/^-?\d{1,3}$/.test(text) || Math.abs(Number(text)) > 100) {
    throw new InvalidArgumentError('must be a whole number from -100 to 100');
  }
  return Number(text);
}
