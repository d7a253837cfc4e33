/** The file of documents and answers that training/confirm.py writes. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { z } from 'zod';
import { LonghaulError } from '../../platform/errors.js';

const count = z.number().int().min(0);
const tokens = z.array(count.max(0xffffffff)).min(1);

const answerSchema = z.object({
  /** `apb8` */
  name: z.string().min(1),
  method: z.enum(['full', 'apb']),
  ranks: count.min(1).max(64),
  l_a: count,
  l_p: count,
  /** PyTorch's greedy tokens in float32, and the least gap of its two best logits among them. */
  predicted: tokens,
  margin: z.number().min(0),
  /** Its tokens with bfloat16 products. */
  predicted_bf16: tokens.optional(),
});

const rowSchema = z.object({
  task: z.string().min(1),
  tokens_n: count.min(1),
  /** Little-endian uint16, as base64. */
  doc: z.base64(),
  query: tokens,
  expected: tokens,
  methods: z.array(answerSchema).min(1),
});

export type RecordedAnswer = z.infer<typeof answerSchema>;

export interface RecordedDocument {
  /** 1-based, in the file. */
  line: number;
  task: string;
  document: Uint32Array;
  query: Uint32Array;
  expected: number[];
  methods: RecordedAnswer[];
}

/** @throws LonghaulError CONFIRM_FILE naming the file, the line and the field. */
export function readRecordedDocuments(path: string): RecordedDocument[] {
  const lines = readLines(path);
  const rows = lines.flatMap((text, index) => (text === '' ? [] : [parseRow(path, index + 1, text)]));
  if (rows.length === 0) throw unusable(path, 'it holds no document');
  return rows;
}

const remedy = 'write it anew with training.evaluate, or restore it from the repository';

function unusable(path: string, why: string, cause?: unknown): LonghaulError {
  return new LonghaulError('CONFIRM_FILE', `${path} cannot be used: ${why}; ${remedy}`, { cause });
}

function readLines(path: string): string[] {
  try {
    const bytes = readFileSync(path);
    const zipped = bytes[0] === 0x1f && bytes[1] === 0x8b;
    return (zipped ? gunzipSync(bytes) : bytes).toString('utf8').split('\n');
  } catch (cause) {
    throw unusable(path, cause instanceof Error ? cause.message : String(cause), cause);
  }
}

function parseRow(path: string, line: number, text: string): RecordedDocument {
  let row: z.infer<typeof rowSchema>;
  try {
    row = rowSchema.parse(JSON.parse(text));
  } catch (cause) {
    const why = cause instanceof z.ZodError ? z.prettifyError(cause) : String(cause);
    throw unusable(path, `line ${line}: ${why}`, cause);
  }
  const { task, doc, query, expected, methods } = row;
  const bytes = Buffer.from(doc, 'base64');
  if (bytes.length !== 2 * row.tokens_n) {
    throw unusable(
      path,
      `line ${line}: doc has ${bytes.length} bytes, not two for each of ${row.tokens_n} tokens`,
    );
  }
  const document = Uint32Array.from({ length: row.tokens_n }, (_, i) => bytes.readUInt16LE(2 * i));
  return { line, task, document, query: Uint32Array.from(query), expected, methods };
}
