import { expect, test } from 'vitest';
import { submitCommand } from '../../src/cli/submit.js';
import { parseWindow } from '../../src/cli/window.js';

test.each([
  ['90s', 90],
  ['90m', 5_400],
  ['24h', 86_400],
  ['365d', 31_536_000],
])('a window of %s is %d seconds', (text, seconds) => {
  expect(parseWindow(text)).toBe(seconds);
});

test.each([
  ['--priority', '101', /whole number from -100 to 100/],
  ['--priority', '1.5', /whole number from -100 to 100/],
  ['--window', '2 days', /whole number with s, m, h or d/],
  ['--window', '24', /whole number with s, m, h or d/],
  ['--window', '366d', /up to 365d/],
  ['--window', '0h', /whole number with/],
  ['--idempotency-key', ' ', /1 to 256 characters/],
  ['--idempotency-key', 'k'.repeat(257), /1 to 256 characters/],
])('%s %s is wrong usage', async (option, value, message) => {
  const command = submitCommand().exitOverride();
  command.configureOutput({ writeErr: () => undefined });
  await expect(command.parseAsync(['file', option, value], { from: 'user' })).rejects.toThrow(message);
});
