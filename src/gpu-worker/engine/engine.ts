import { VERSION } from '../../platform/version.js';
import { addon } from './addon.js';
import type * as bindings from './bindings.js';
import { EngineError } from './errors.js';

export type {
  BackendName,
  CudaOptions,
  ConnectOptions,
  Decoded,
  DecodeOptions,
  Layout,
  LayoutOptions,
  LoadOptions,
  Method,
  ModelInfo,
  Phase,
  PhaseTimes,
  Precision,
  PrefillOptions,
  Progress,
  Rates,
  RingLayout,
  Select,
  Trace,
} from './bindings.js';
export { EngineError } from './errors.js';

export interface Capabilities extends bindings.Capabilities {
  version: string;
}

/** When `signal` aborts, the call rejects with COMM_ABORTED, its `cause` the signal's reason. */
export interface Abortable {
  signal?: AbortSignal;
}

/**
 * Blocks, anchor and passing lengths of a document over the ranks: pure arithmetic.
 * @throws EngineError ENGINE_INVALID_ARGUMENT naming the field.
 */
export function planLayout(options: bindings.LayoutOptions): bindings.Layout {
  return typed(() => addon().planLayout(options));
}

/**
 * What this build and this machine can do. The GPU is probed in a child process, once per process and
 * options: a driver that crashes does not take the caller with it.
 */
export function capabilities(options: bindings.CudaOptions = {}): Capabilities {
  return { ...typed(() => addon().capabilities(options)), version: VERSION };
}

/**
 * One rank's engine: a model, a communicator, and the cache of one document. It computes on a
 * thread of its own; calls run in the order in which they were made. All ranks of a cohort make
 * the same calls of `connect`, `prefill` and `decode`.
 *
 * Stopping, exactly:
 * - `requestStop()` sets a flag on each call that is pending (running or queued) at that moment,
 *   and on no later one. Rank 0's counts: all ranks stop at the same place with ENGINE_STOPPED,
 *   and the communicator lives. On other ranks it does nothing.
 * - `abort()` makes each pending call reject with COMM_ABORTED and breaks the communicator: peers
 *   see COMM_PEER_LOST. Before the next prefill the engine must `listen` and `connect` again; the
 *   model stays loaded, the document's cache does not.
 * - `dispose()` aborts, frees everything and ends the thread. An engine that is never disposed of
 *   is cleaned up by garbage collection or the end of the process.
 *
 * A pending call keeps the process alive; an idle engine does not.
 */
export class Engine {
  private disposing: Promise<void> | undefined;

  private constructor(private readonly raw: bindings.RawEngine) {}

  static create(): Engine {
    return new Engine(typed(() => new (addon().Engine)()));
  }

  /** Replaces an earlier model, and disconnects. */
  load(options: bindings.LoadOptions & Abortable): Promise<bindings.ModelInfo> {
    return this.call(options.signal, () => this.raw.load(options));
  }

  /** Times parts of a layer for about a quarter of a second; the model must be loaded. */
  measureRates(): Promise<bindings.Rates> {
    return this.call(undefined, () => this.raw.measureRates());
  }

  /** Opens the listener that the next `connect` uses up, and returns its port. */
  listen(host: string, port = 0): Promise<number> {
    return this.call(undefined, () => this.raw.listen({ host, port }));
  }

  /** Resolves when every rank is connected to every other one, with what connects them: `solo`, `tcp` or `nccl`. */
  connect(options: bindings.ConnectOptions & Abortable): Promise<string> {
    return this.call(options.signal, () => this.raw.connect(options));
  }

  /** Runs the document and keeps this rank's part of its cache; replaces an earlier document. */
  prefill(options: bindings.PrefillOptions & Abortable): Promise<bindings.Prefilled> {
    return this.call(options.signal, () => this.raw.prefill(options));
  }

  /** `prefill`, and the seconds of each phase. */
  async timedPrefill(options: bindings.PrefillOptions & Abortable): Promise<bindings.PhaseTimes> {
    const { phases } = await this.prefill({ ...options, phases: true });
    if (phases === undefined) throw new Error('the engine measured no phases');
    return phases;
  }

  /** Answers one question from the document's cache, which is afterwards as it was before. */
  decode(options: bindings.DecodeOptions & Abortable): Promise<bindings.Decoded> {
    return this.call(options.signal, () => this.raw.decode(options));
  }

  /** What a prefill with `trace: true` and the last decode recorded. */
  trace(): Promise<bindings.Trace> {
    return this.call(undefined, () => this.raw.trace());
  }

  /** Drops the document's cache. */
  release(): Promise<void> {
    return this.call(undefined, () => this.raw.release());
  }

  requestStop(): void {
    this.raw.requestStop();
  }

  abort(): void {
    this.raw.abort();
  }

  dispose(): Promise<void> {
    this.disposing ??= this.raw.dispose();
    return this.disposing;
  }

  private async call<T>(signal: AbortSignal | undefined, start: () => Promise<T>): Promise<T> {
    if (signal?.aborted) {
      this.raw.abort(); // peers may be in the call already
      throw new EngineError('COMM_ABORTED', 'the call was aborted before it began', undefined, {
        cause: signal.reason,
      });
    }
    const onAbort = () => this.raw.abort();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await start();
    } catch (error) {
      throw EngineError.from(error, signal?.aborted ? signal.reason : undefined);
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }
}

function typed<T>(body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw error instanceof EngineError ? error : EngineError.from(error);
  }
}
