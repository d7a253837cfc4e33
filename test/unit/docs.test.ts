import { existsSync, readFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';
import { apiReference } from './api-reference.js';
import { errorCodeList, errorReference } from './error-reference.js';

test('the list of errors is current: make docs', { timeout: 60_000 }, async () => {
  await expect(errorReference()).toMatchFileSnapshot('../../docs/errors.md');
  await expect(errorCodeList()).toMatchFileSnapshot('../../src/library/error-codes.ts');
});

test('the reference for programs is current: make docs', async () => {
  const text = apiReference();
  expect(text).toMatch(/### Longhaul\n[^]*async submit\([^]*throws InputError[^]*### Outcome\n/);
  await expect(text).toMatchFileSnapshot('../../docs/api.md');
});

test('the list of errors has codes, their sentences, and names for values', { timeout: 60_000 }, () => {
  const text = errorReference();
  expect(text).toMatch(/\| `TOO_LONG` \| .*&lt;\w+&gt;/);
  expect(text).toContain('`CONFIG`');
});

const pages = execFileSync('git', ['ls-files', '-co', '--exclude-standard', '*.md'], { encoding: 'utf8' })
  .split('\n')
  .filter((page) => page !== '' && existsSync(page));

test('there are pages', () => {
  expect(pages.length).toBeGreaterThan(15);
});

test.each(pages)('every link of %s leads to a file, and to a heading where it names one', (page) => {
  const text = withoutCode(readFileSync(page, 'utf8'));
  const broken: string[] = [];
  for (const [, target = ''] of text.matchAll(/\]\(([^()\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target)) continue;
    const [path = '', anchor] = target.split('#');
    const file = path === '' ? page : normalize(join(dirname(page), path));
    if (!existsSync(file)) broken.push(target);
    else if (anchor !== undefined && !anchorsOf(file).has(anchor)) broken.push(target);
  }
  expect(broken).toEqual([]);
});

test('every page of docs/ is named by its index', () => {
  const index = readFileSync('docs/README.md', 'utf8');
  const own = pages.filter((page) => /^docs\/[^/]+\.md$/.test(page) && page !== 'docs/README.md');
  expect(own.filter((page) => !index.includes(`(${page.slice('docs/'.length)})`))).toEqual([]);
});

function withoutCode(text: string): string {
  return text.replace(/^```[^]*?^```/gm, '').replace(/`[^`\n]*`/g, '');
}

/** As GitHub makes them: small letters, spaces as hyphens, no other signs. */
function anchorsOf(file: string): Set<string> {
  const headings = readFileSync(file, 'utf8')
    .replace(/^```[^]*?^```/gm, '')
    .matchAll(/^#{1,6} (.+)$/gm);
  return new Set(
    [...headings].map(([, heading = '']) =>
      heading
        .trim()
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}
