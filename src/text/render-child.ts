/**
 * Renders one chat template and ends. A process of its own: a template comes with a model from
 * anywhere, and one that fills the memory takes down the process that it runs in, threads and all.
 * It gets a heap limit and no environment; render-template.ts holds the clock and counts the output.
 */
import { readFileSync, writeSync } from 'node:fs';
import { Template } from '@huggingface/jinja';
import type { RenderInput } from './render-template.js';

const STDIN = 0;
const STDOUT = 1;

// A prompt is the same every day: where a template asks for the date it is that of Llama 3.1's own default.
const RealDate = Date;
globalThis.Date = class extends RealDate {
  constructor() {
    super(2024, 6, 26);
  }
} as DateConstructor;

const { template, variables } = JSON.parse(readFileSync(STDIN, 'utf8')) as RenderInput;
let answer: { text: string } | { error: string };
try {
  answer = { text: new Template(template).render(variables) };
} catch (error) {
  answer = { error: error instanceof Error ? error.message : String(error) };
}
const bytes = Buffer.from(JSON.stringify(answer));
// A pipe takes what fits into it; process.stdout would be cut off by the exit.
for (let at = 0; at < bytes.length;) {
  try {
    at += writeSync(STDOUT, bytes, at);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
  }
}
