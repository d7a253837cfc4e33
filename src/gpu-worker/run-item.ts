import { reach } from '../platform/test-points.js';
import { now } from './wait.js';
import type { EngineLike } from './engine-like.js';
import type { PhaseTimes, Prefilled } from './engine/bindings.js';
import type { PreparedItem, Question } from './prepare-item.js';

export interface Decoded {
  question: Question;
  tokens: Uint32Array;
  finish: 'eos' | 'length';
}

export interface RunOutput {
  decoded: Decoded[];
  prefillSeconds: number;
  decodeSeconds: number;
  /** Seconds of each phase over all prefills; null: not measured. */
  phases: PhaseTimes | null;
  /** Of passing blocks, over all prefills. */
  passedBytes: Prefilled['passedBytes'];
}

export interface RunContext {
  engine: EngineLike;
  /** Token ids that end an answer. */
  stop: number[];
  collectiveMs: number;
  measurePhases?: boolean;
  /** Aborts when rank 0 wants all ranks to stop together; never aborts on followers. */
  stopSignal: AbortSignal;
  /** Aborts when the communicator is given up. */
  abortSignal: AbortSignal;
  onProgress?: (progress: { phase: 'prefill' | 'decode'; done: number; total: number }) => void;
}

/**
 * The run of one item: every rank makes exactly these calls in this order, so what it does may depend
 * on the item alone. A stop concerns only the call that is pending when it is asked for; so rank
 * 0 makes the next call all the same and stops that one, or the other ranks would wait in it for ever.
 */
export async function runItem(
  context: RunContext,
  { item, block, groups }: PreparedItem,
): Promise<RunOutput> {
  const { engine, collectiveMs: collectiveTimeoutMs, onProgress } = context;
  const output: RunOutput = {
    decoded: [],
    prefillSeconds: 0,
    decodeSeconds: 0,
    phases: null,
    passedBytes: { sent: 0, received: 0 },
  };
  const questions = item.requests.reduce((sum, request) => sum + request.questions.length, 0);
  const onStop = () => {
    engine.requestStop();
  };
  context.stopSignal.addEventListener('abort', onStop);
  const call = async <T>(begin: () => Promise<T>): Promise<{ value: T; seconds: number }> => {
    context.abortSignal.throwIfAborted();
    const begun = now();
    const pending = begin();
    if (context.stopSignal.aborted) engine.requestStop();
    return { value: await pending, seconds: (now() - begun) / 1000 };
  };
  try {
    for (const [index, group] of groups.entries()) {
      const prefill = await call(() =>
        engine.prefill({
          layout: group.layout,
          head: group.head,
          block,
          query: group.query,
          select: item.options.select ?? undefined,
          collectiveTimeoutMs,
          phases: context.measurePhases,
          onProgress: ({ done, total }) => {
            if (done > 0) reach('prefill');
            onProgress?.({ phase: 'prefill', done: index * total + done, total: groups.length * total });
          },
        }),
      );
      output.prefillSeconds += prefill.seconds;
      output.phases = sum(output.phases, prefill.value.phases);
      output.passedBytes.sent += prefill.value.passedBytes.sent;
      output.passedBytes.received += prefill.value.passedBytes.received;
      for (const question of group.questions) {
        if (output.decoded.length > 0) reach('decode');
        onProgress?.({ phase: 'decode', done: output.decoded.length, total: questions });
        const decode = await call(() =>
          engine.decode({
            query: question.query,
            maxNewTokens: question.maxTokens,
            temperature: question.temperature,
            seed: question.seed,
            eos: context.stop,
            collectiveTimeoutMs,
          }),
        );
        output.decodeSeconds += decode.seconds;
        output.decoded.push({ question, ...decode.value });
      }
    }
    return output;
  } finally {
    context.stopSignal.removeEventListener('abort', onStop);
  }
}

function sum(before: PhaseTimes | null, more: PhaseTimes | undefined): PhaseTimes | null {
  if (before === null || more === undefined) return more ?? before;
  const entries = Object.entries(more) as [keyof PhaseTimes, number][];
  return Object.fromEntries(entries.map(([name, seconds]) => [name, before[name] + seconds])) as PhaseTimes;
}
