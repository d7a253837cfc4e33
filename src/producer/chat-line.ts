/**
 * A line as OpenAI's Batch API takes it, for `/v1/chat/completions`: the last message is the
 * question, the messages before it are the document, with their roles where the model's chat template
 * has them. Whatever would change the answer and longhaul
 * does not have is refused by its name. Pure.
 */
import { chatBody, requestLine, ROLES, type ChatRole } from '../contracts/request.js';
import type { ChatMessage } from '../text/chat-template.js';
import {
  describe,
  missingFields,
  pathOf,
  sizeProblems,
  surrogateProblems,
  unknownField,
  type CheckedLine,
  type CheckedRequest,
  type Problem,
} from './check-line.js';

const URL = '/v1/chat/completions';
const FIELDS = ['custom_id', 'method', 'url', 'body'];

/** What longhaul has nothing for, with the values that ask for nothing; null always is one. */
const UNSUPPORTED: Record<string, readonly unknown[]> = {
  n: [1],
  stream: [false],
  stream_options: [],
  tools: [[]],
  tool_choice: ['none'],
  parallel_tool_calls: [true, false],
  functions: [[]],
  function_call: ['none'],
  logprobs: [false],
  top_logprobs: [0],
  logit_bias: [{}],
  response_format: [{ type: 'text' }],
  stop: [[]],
  top_p: [1],
  presence_penalty: [0],
  frequency_penalty: [0],
  modalities: [['text']],
  audio: [],
  prediction: [],
  reasoning_effort: [],
  verbosity: [],
  service_tier: ['auto', 'default'],
  store: [false],
  web_search_options: [],
};
/** Say who asks; they do not concern the answer. */
const WITHOUT_EFFECT = ['user', 'safety_identifier', 'prompt_cache_key'];
const BODY_FIELDS = Object.keys(chatBody.shape);

export interface ChatDocument {
  document: string;
  messages: ChatMessage[];
}

interface Message {
  role: ChatRole;
  text: string;
}

/** Whether a line is meant in this style: it has what only this style has. */
export function isChatLine(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  return 'body' in value || 'method' in value;
}

/** `served`: the name of the model that a line must ask for. */
export function checkChatLine(line: Record<string, unknown>, served: string): CheckedLine {
  const problems: Problem[] = [
    ...Object.keys(line).flatMap((field) => (FIELDS.includes(field) ? [] : unknownField(field, '', FIELDS))),
    ...missingFields(line, FIELDS),
  ];
  const must = (field: string, value: string) => {
    if (field in line && line[field] !== value) {
      problems.push({ field, message: `must be ${JSON.stringify(value)}, not ${describe(line[field])}` });
    }
  };
  must('method', 'POST');
  must('url', URL);
  const id = requestLine.shape.custom_id.safeParse(line['custom_id']);
  if ('custom_id' in line && !id.success) {
    problems.push({ field: 'custom_id', message: id.error.issues[0]?.message ?? 'is refused' });
  }
  problems.push(...surrogateProblems(line, ''));
  const { body } = line;
  if (!isObject(body)) {
    if ('body' in line) problems.push({ field: 'body', message: `must be an object, not ${describe(body)}` });
    return { problems };
  }
  const options = checkBody(body, served, problems);
  const talk = readMessages(body['messages'], problems);
  if (options === undefined || talk === undefined || !id.success) return { problems };
  const { limitField, ...asked } = options;
  const { question, questionField, ...read } = talk;
  const request: CheckedRequest = { custom_id: id.data, questions: [question], ...read, ...asked };
  problems.push(...sizeProblems(request, { max_tokens: limitField, questions: questionField }));
  return problems.length > 0 ? { problems } : { request };
}

/** The document of a line that was accepted: its text, and the messages that it is made of. */
export function chatDocument(line: Record<string, unknown>): ChatDocument | undefined {
  return isObject(line['body']) ? readMessages(line['body']['messages'], []) : undefined;
}

function checkBody(body: Record<string, unknown>, served: string, problems: Problem[]) {
  const given = Object.entries(body).filter(([field, value]) => value !== null && field !== 'messages');
  for (const [field, value] of given) {
    const neutral = Object.hasOwn(UNSUPPORTED, field) ? UNSUPPORTED[field] : undefined;
    if (neutral !== undefined) {
      if (neutral.some((allowed) => JSON.stringify(allowed) === JSON.stringify(value))) continue;
      const message = `${describe(value)} is not supported: longhaul gives one plain answer per question; leave it out`;
      problems.push({ field: `body.${field}`, message });
    } else if (!BODY_FIELDS.includes(field) && !WITHOUT_EFFECT.includes(field)) {
      problems.push(unknownField(field, 'body.', [...BODY_FIELDS, 'messages']));
    }
  }
  const known = Object.fromEntries(given.filter(([field]) => BODY_FIELDS.includes(field)));
  problems.push(...missingFields(known, ['model'], 'body.'));
  const parsed = chatBody.safeParse(known);
  if (!parsed.success) {
    for (const { path, message } of parsed.error.issues) {
      if (path[0] !== 'model' || 'model' in known)
        problems.push({ field: pathOf(['body', ...path]), message });
    }
    return undefined;
  }
  const { model, max_tokens, max_completion_tokens, temperature, seed, metadata } = parsed.data;
  if (model !== served) {
    const message = `${describe(model)} is not served here, ${JSON.stringify(served)} is; name that one, or point modelDir at the other`;
    problems.push({ field: 'body.model', message });
  }
  if (
    max_tokens !== undefined &&
    max_completion_tokens !== undefined &&
    max_tokens !== max_completion_tokens
  ) {
    const message = `is ${max_completion_tokens} and max_tokens is ${max_tokens}; give one of them`;
    problems.push({ field: 'body.max_completion_tokens', message });
  }
  const tokens = max_completion_tokens ?? max_tokens;
  const defaults = requestLine.shape;
  return {
    chat_model: model,
    limitField: max_completion_tokens === undefined ? 'body.max_tokens' : 'body.max_completion_tokens',
    max_tokens: defaults.max_tokens.parse(tokens),
    temperature: defaults.temperature.parse(temperature),
    seed: defaults.seed.parse(seed),
    metadata: metadata ?? null,
  };
}

/** Undefined after a problem was added. */
function readMessages(
  given: unknown,
  problems: Problem[],
): (ChatDocument & { question: string; questionField: string }) | undefined {
  const before = problems.length;
  const refuse = (field: string, message: string) => void problems.push({ field, message });
  if (!Array.isArray(given)) {
    refuse('body.messages', given === undefined ? 'is missing' : `must be a list, not ${describe(given)}`);
    return undefined;
  }
  const read = given.map((message, index) => readMessage(message, `body.messages[${index}]`, problems));
  const last = read.length - 1;
  const field = `body.messages[${last}]`;
  if (read.length < 2) {
    refuse(
      'body.messages',
      'needs two messages or more: the last is the question, those before it the document',
    );
  } else if (read[last] !== undefined && read[last].role !== 'user') {
    refuse(
      `${field}.role`,
      `must be "user", not ${describe(read[last].role)}: the last message is the question`,
    );
  }
  if (problems.length > before) return undefined;
  const talk = read.filter((message) => message !== undefined);
  const question = talk.pop()?.text ?? '';
  const document = joinMessages(talk);
  if (question === '') refuse(`${field}.content`, 'is empty; it is the question');
  if (talk.every(({ text }) => text === '')) {
    refuse('body.messages', 'has no text before the question; it is the document');
  }
  const messages = talk.map(
    ({ role, text }) => ({ role: role === 'developer' ? 'system' : role, content: text }) as const,
  );
  return problems.length > before
    ? undefined
    : { document, messages: messages, question, questionField: `${field}.content` };
}

/**
 * For a model without a chat template: the messages' texts with an empty line between them. A conversation (one with an
 * assistant's message in it) also says who speaks.
 */
function joinMessages(messages: readonly Message[]): string {
  const speaker: Record<ChatRole, string> = {
    system: 'System: ',
    developer: 'System: ',
    user: 'User: ',
    assistant: 'Assistant: ',
  };
  const isConversation = messages.some(({ role }) => role === 'assistant');
  return messages.map(({ role, text }) => (isConversation ? speaker[role] : '') + text).join('\n\n');
}

function readMessage(message: unknown, at: string, problems: Problem[]): Message | undefined {
  const before = problems.length;
  if (!isObject(message)) {
    problems.push({ field: at, message: `must be {"role", "content"}, not ${describe(message)}` });
    return undefined;
  }
  const { role, content, ...others } = message;
  for (const [field, value] of Object.entries(others)) {
    if (value === null) continue;
    problems.push({
      field: `${at}.${field}`,
      message: 'is not supported: a message is a role and text; leave it out',
    });
  }
  if (!(ROLES as readonly unknown[]).includes(role)) {
    problems.push({
      field: `${at}.role`,
      message: `must be one of ${ROLES.join(', ')}, not ${describe(role)}`,
    });
  }
  const text = readContent(content, `${at}.content`, problems);
  return problems.length > before || text === undefined ? undefined : { role: role as ChatRole, text };
}

/** Text, or parts of text: those are joined by line breaks. */
function readContent(content: unknown, at: string, problems: Problem[]): string | undefined {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) {
    problems.push({ field: at, message: `must be text or a list of text parts, not ${describe(content)}` });
    return undefined;
  }
  const texts = content.map((part: unknown, index): string | undefined => {
    const { type, text, ...others } = isObject(part) ? part : {};
    const field = `${at}[${index}]`;
    if (type !== 'text') {
      const message = `${describe(type)} is not supported: longhaul reads text alone, in parts {"type": "text", "text": "..."}`;
      problems.push({ field: `${field}.type`, message });
      return undefined;
    }
    const [unknown] = Object.keys(others);
    if (unknown !== undefined) problems.push(unknownField(unknown, `${field}.`, ['type', 'text']));
    if (typeof text === 'string') return text;
    problems.push({ field: `${field}.text`, message: `must be text, not ${describe(text)}` });
    return undefined;
  });
  return texts.join('\n');
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
