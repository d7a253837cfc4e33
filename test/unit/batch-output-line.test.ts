import { expect, test } from 'vitest';
import { encodeOutcome } from '../../src/batch/outcomes.js';
import { encodeOutputLine } from '../../src/batch/output-line.js';
import type { Outcome } from '../../src/contracts/outcome.js';

const header = { batch_id: 'batch_1', created_at: 1_700_000_000 };
const chat = { chat_model: 'demo' };
const answered: Outcome = {
  format: 'longhaul-outcome/1',
  batch_id: 'batch_1',
  ordinal: 3,
  custom_id: 'request-4',
  status: 'answered',
  answers: [{ question: 'Who?', text: 'Ahab', tokens: 2, finish: 'stop' }],
  error: null,
  usage: { document_tokens: 1000, query_tokens: 7, answer_tokens: 3 },
  execution: null,
  metadata: null,
};
const parse = (bytes: Buffer) => JSON.parse(bytes.toString()) as Record<string, unknown>;

test('a request in longhaul’s own style gets its outcome as it is', () => {
  expect(encodeOutputLine(header, {}, answered).equals(encodeOutcome(answered))).toBe(true);
});

test('an OpenAI line gets a chat completion, whose time is the batch’s', () => {
  const line = parse(encodeOutputLine(header, chat, answered));
  const text = (pattern: RegExp): unknown => expect.stringMatching(pattern);
  expect(line).toEqual({
    id: text(/^batch_req_[0-9a-f]{32}$/),
    custom_id: 'request-4',
    response: {
      status_code: 200,
      request_id: text(/^req_[0-9a-f]{32}$/),
      body: {
        id: text(/^chatcmpl-[0-9a-f]{32}$/),
        object: 'chat.completion',
        created: 1_700_000_000,
        model: 'demo',
        choices: [
          {
            index: 0,
            message: { role: 'assistant', content: 'Ahab', refusal: null },
            logprobs: null,
            finish_reason: 'stop',
          },
        ],
        usage: { prompt_tokens: 1007, completion_tokens: 3, total_tokens: 1010 },
      },
    },
    error: null,
  });
});

test('the same outcome gives the same bytes, another request other ids', () => {
  const bytes = encodeOutputLine(header, chat, answered);
  expect(encodeOutputLine(header, chat, structuredClone(answered)).equals(bytes)).toBe(true);
  const other = parse(encodeOutputLine(header, chat, { ...answered, ordinal: 4 }));
  expect(other['id']).not.toBe(parse(bytes)['id']);
});

test.each([
  ['failed', { code: 'POISON', message: 'ended three cohorts' }, 'POISON'],
  ['expired', { code: 'EXPIRED', message: 'the batch expired' }, 'batch_expired'],
  ['cancelled', { code: 'CANCELLED', message: 'the batch was cancelled' }, 'batch_cancelled'],
] as const)('a %s OpenAI line has no response and an error', (status, error, code) => {
  const outcome: Outcome = { ...answered, status, answers: [], error, usage: null };
  expect(parse(encodeOutputLine(header, chat, outcome))).toEqual({
    id: expect.stringMatching(/^batch_req_/) as unknown,
    custom_id: 'request-4',
    response: null,
    error: { code, message: error.message },
  });
});
