/** OpenTelemetry's side of tracing.ts, which loads this file only where traces go somewhere. */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  context,
  propagation,
  SpanKind,
  SpanStatusCode,
  trace,
  type Context,
  type Span,
} from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  BatchSpanProcessor,
  NodeTracerProvider,
  SamplingDecision,
  TraceIdRatioBasedSampler,
  type Sampler,
  type SamplingResult,
  type SpanExporter,
} from '@opentelemetry/sdk-trace-node';
import type { Telemetry } from 'bullmq';
import { BullMQOtel } from 'bullmq-otel';
import type { Config } from './config.js';
import { createLogger, type Logger } from './logger.js';
import type { PastSpan, Tracing } from './tracing.js';
import { VERSION } from './version.js';

/** Milliseconds between two exports, of one export, and for what waits at the end. */
const EVERY = 1_000;
const EXPORT = 3_000;
const END = 2_000;

/** BullMQ's attribute with a job's return value: answers, which do not belong into traces. */
const JOB_RESULT = 'bullmq.job.result';

type Settings = Config & { otlpEndpoint: string };

export function openTracing(config: Settings, service: string): Tracing {
  const url = `${config.otlpEndpoint.replace(/\/+$/, '')}/v1/traces`;
  const exporter = new OTLPTraceExporter({
    url,
    headers: parseHeaders(config.otlpHeaders),
    timeoutMillis: EXPORT,
  });
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({
      'service.name': config.otlpService ?? `longhaul-${service}`,
      'service.version': VERSION,
      'process.pid': process.pid,
    }),
    sampler: new Share(config.otlpShare),
    spanProcessors: [
      new BatchSpanProcessor(toldWhenItFails(exporter, createLogger('tracing', config), url), {
        scheduledDelayMillis: EVERY,
        exportTimeoutMillis: EXPORT,
      }),
    ],
  });
  provider.register();
  const tracer = provider.getTracer('longhaul', VERSION);

  return {
    telemetry: withoutResults(new BullMQOtel({ tracerName: 'bullmq' })),
    span: (name, kind, attributes, work) => {
      const spanKind = kind === 'producer' ? SpanKind.PRODUCER : SpanKind.INTERNAL;
      return tracer.startActiveSpan(name, { kind: spanKind, attributes }, async (span) => {
        try {
          return await work((more) => span.setAttributes(more));
        } catch (error) {
          span.recordException(error instanceof Error ? error : String(error));
          span.setStatus({ code: SpanStatusCode.ERROR });
          throw error;
        } finally {
          span.end();
        }
      });
    },
    past: (span) => {
      writePast(span, context.active());
    },
    carrier: () => {
      const carried: { traceparent?: string } = {};
      propagation.inject(context.active(), carried);
      return carried.traceparent === undefined ? undefined : JSON.stringify(carried);
    },
    stop: async () => {
      const over = new AbortController();
      const late = sleep(END, undefined, { signal: over.signal, ref: true }).catch(() => undefined);
      await Promise.race([provider.shutdown().catch(() => undefined), late]);
      over.abort();
    },
  };

  function writePast({ name, start, end, attributes, children = [] }: PastSpan, parent: Context): void {
    const span: Span = tracer.startSpan(name, { startTime: start, attributes }, parent);
    for (const child of children) writePast(child, trace.setSpan(parent, span));
    span.end(end);
  }
}

/** `name=value,name=value`, values percent-encoded, as OpenTelemetry writes them. */
function parseHeaders(text = ''): Record<string, string> {
  const pairs = text.split(',').filter((pair) => pair.trim() !== '');
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      return [pair.slice(0, at).trim(), decodeURIComponent(pair.slice(at + 1).trim())];
    }),
  );
}

/**
 * Takes this share of the traces, each whole. What BullMQ does by itself (looking for jobs and for stalled ones, closing
 * queues) is no step of anything.
 */
class Share implements Sampler {
  private readonly ratio: TraceIdRatioBasedSampler;

  constructor(share: number) {
    this.ratio = new TraceIdRatioBasedSampler(share);
  }

  shouldSample(parent: Context, traceId: string, name: string, kind: SpanKind): SamplingResult {
    const above = trace.getSpanContext(parent);
    if (/^(getNextJob|close)\b/.test(name)) return { decision: SamplingDecision.NOT_RECORD };
    if (above !== undefined) {
      const isTaken = (above.traceFlags & 1) === 1;
      return { decision: isTaken ? SamplingDecision.RECORD_AND_SAMPLED : SamplingDecision.NOT_RECORD };
    }
    if (kind === SpanKind.INTERNAL) return { decision: SamplingDecision.NOT_RECORD };
    return this.ratio.shouldSample(parent, traceId);
  }

  toString(): string {
    return `Share(${this.ratio.toString()})`;
  }
}

/** The first failure of a row is told; the exporter tries each export again by itself. */
function toldWhenItFails(inner: SpanExporter, logger: Logger, url: string): SpanExporter {
  let failing = false;
  return {
    export: (spans, done) => {
      inner.export(spans, (result) => {
        const failed = Number(result.code) !== 0;
        if (failed && !failing) logger.warn({ url, err: result.error }, 'traces are not taken');
        failing = failed;
        done(result);
      });
    },
    shutdown: () => inner.shutdown(),
    forceFlush: () => inner.forceFlush?.() ?? Promise.resolve(),
  };
}

function withoutResults({ contextManager, tracer }: BullMQOtel): Telemetry {
  return {
    contextManager: contextManager as Telemetry['contextManager'],
    tracer: {
      startSpan: (name, options, parent: Context) => {
        const span = tracer.startSpan(name, options, parent);
        const addEvent = span.addEvent.bind(span);
        span.addEvent = (event, attributes) => {
          const { [JOB_RESULT]: _result, ...kept } = (attributes ?? {}) as Record<string, string>;
          addEvent(event, kept);
        };
        return span;
      },
    },
  };
}
