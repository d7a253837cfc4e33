import { describe, expect, it } from 'vitest';
import { requestLine } from '../../src/contracts/request.js';

const good = { custom_id: 'a', document: 'text', question: 'what?' };
const paths = (value: unknown) =>
  requestLine.safeParse(value).error?.issues.map((i) => i.path.join('.')) ?? [];

describe('a request line', () => {
  it('fills defaults: greedy, 64 tokens', () => {
    expect(requestLine.parse(good)).toMatchObject({ max_tokens: 64, temperature: 0, seed: 0 });
  });

  it('takes a document inline, by path or by S3 URL, and nothing else', () => {
    for (const document of [
      'x',
      { path: 'a.txt' },
      { url: 's3://b/k' },
      { url: 'https://a/b', format: 'html' },
    ]) {
      expect(paths({ ...good, document })).toEqual([]);
    }
    for (const document of ['', 7, { path: 'a', url: 's3://b/k' }, { url: 'ftp://x' }, {}, null]) {
      expect(paths({ ...good, document })).not.toEqual([]);
    }
  });

  it('needs exactly one of question and questions', () => {
    expect(paths({ ...good, questions: ['b'] })).toContain('question');
    expect(paths({ custom_id: 'a', document: 'x' })).toContain('question');
    expect(paths({ custom_id: 'a', document: 'x', questions: Array(65).fill('q') })).toContain('questions');
  });

  it('refuses unknown fields', () => {
    expect(requestLine.safeParse({ ...good, max_token: 3 }).error?.issues[0]?.code).toBe('unrecognized_keys');
  });
});
