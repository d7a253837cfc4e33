/**
 * Traces of OpenTelemetry, where `otlpEndpoint` says that someone takes them. Otherwise no SDK is loaded, and what is
 * called here does its work and no more. A job carries its trace in BullMQ's options, so one trace goes
 * from a submit through the ranks to the commit.
 */
import type { Telemetry } from 'bullmq';
import type { Config } from './config.js';

export type SpanAttributes = Record<string, string | number | string[]>;
/** Sets attributes that are known only later. */
export type Describe = (attributes: SpanAttributes) => void;

/** `producer`: begins a trace where none is under way; `internal` is told only within one. */
export type SpanKind = 'producer' | 'internal';

/** Something that was measured; times in Unix milliseconds. */
export interface PastSpan {
  name: string;
  start: number;
  end: number;
  attributes: SpanAttributes;
  children?: PastSpan[];
}

export interface Tracing {
  /** For queues and workers of BullMQ. */
  telemetry: Telemetry;
  span: <T>(
    name: string,
    kind: SpanKind,
    attributes: SpanAttributes,
    work: (describe: Describe) => Promise<T>,
  ) => Promise<T>;
  past: (span: PastSpan) => void;
  /** The trace under way, as jobs carry it; undefined: none is. */
  carrier: () => string | undefined;
  /** Sends what waits, as long as that takes no longer than some seconds. */
  stop: () => Promise<void>;
}

let tracing: Tracing | undefined;

/** Before queues and workers are opened; `service` is told where `otlpService` is not set. */
export async function startTracing(config: Config, service: string): Promise<void> {
  if (config.otlpEndpoint === undefined || tracing !== undefined) return;
  const { openTracing } = await import('./otlp.js');
  tracing = openTracing({ ...config, otlpEndpoint: config.otlpEndpoint }, service);
}

/** At the end of a process. */
export async function stopTracing(): Promise<void> {
  const stopped = tracing;
  tracing = undefined;
  await stopped?.stop();
}

/** Does `work` as one step of the trace under way. */
export function traced<T>(
  name: string,
  kind: SpanKind,
  attributes: SpanAttributes,
  work: (describe: Describe) => Promise<T>,
): Promise<T> {
  return tracing === undefined ? work(() => undefined) : tracing.span(name, kind, attributes, work);
}

/** Tells of steps that are over; `describe` is called only where there are traces. */
export function tracePast(describe: () => PastSpan[]): void {
  if (tracing !== undefined) for (const span of describe()) tracing.past(span);
}

/** Options of every queue and worker of BullMQ. */
export function queueTelemetry(): { telemetry?: Telemetry } {
  return tracing === undefined ? {} : { telemetry: tracing.telemetry };
}

/** Options of a job that belongs to the trace under way. */
export function jobTelemetry(): { telemetry?: { metadata: string } } {
  const metadata = tracing?.carrier();
  return metadata === undefined ? {} : { telemetry: { metadata } };
}
