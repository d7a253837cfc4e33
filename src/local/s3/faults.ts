import { z } from 'zod';

/**
 * Faults on demand, for tests: what a store can do to its clients, made to happen now. Reached in
 * process through this class, and from other processes through `/_faults` (see control.ts).
 */
export const faultRuleSchema = z.strictObject({
  /** Only this S3 operation, such as `PutObject`. */
  operation: z.string().optional(),
  bucket: z.string().optional(),
  /** A regular expression that the key must match. */
  key: z.string().optional(),
  /** How many matching requests to spoil; then the rule is used up. */
  times: z.number().int().positive().default(1),
  /** Let this many matching requests pass first. */
  skip: z.number().int().nonnegative().default(0),
  action: z.discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('error'),
      status: z.union([z.literal(500), z.literal(503)]).default(503),
    }),
    z.strictObject({ kind: z.literal('delay'), ms: z.number().nonnegative() }),
    /** The connection dies before anything was done. */
    z.strictObject({ kind: z.literal('reset-before') }),
    /** The request takes effect, then the connection dies without a reply. */
    z.strictObject({ kind: z.literal('reset-after') }),
    /** Half of a reply's body, then the connection dies. */
    z.strictObject({ kind: z.literal('truncate') }),
  ]),
});
export type FaultRule = z.output<typeof faultRuleSchema>;
export type FaultRuleInput = z.input<typeof faultRuleSchema>;
export type FaultAction = FaultRule['action'];

export const faultSwitchesSchema = z.strictObject({
  /** Every request fails until it is switched off: with 503, or by a reset connection. */
  outage: z.union([z.literal(false), z.literal('error'), z.literal('reset')]).optional(),
  /** Behave like a store that does not know conditional writes: If-None-Match and If-Match are ignored on PUT. */
  ignoreConditions: z.boolean().optional(),
});
export type FaultSwitches = z.output<typeof faultSwitchesSchema>;

export interface FaultTarget {
  operation: string;
  bucket?: string;
  key?: string;
}

export interface FaultState {
  rules: { id: number; rule: FaultRule; hits: number }[];
  outage: false | 'error' | 'reset';
  ignoreConditions: boolean;
  /** Requests seen since the start, by operation: lets a test prove that something was (not) asked. */
  requests: Record<string, number>;
}

export class Faults {
  private rules: { id: number; rule: FaultRule; pattern?: RegExp; skipped: number; hits: number }[] = [];
  private nextId = 1;
  private requests: Record<string, number> = {};
  outage: false | 'error' | 'reset' = false;
  ignoreConditions = false;

  add(input: FaultRuleInput): number {
    const rule = faultRuleSchema.parse(input);
    const id = this.nextId++;
    this.rules.push({
      id,
      rule,
      pattern: rule.key === undefined ? undefined : new RegExp(rule.key),
      skipped: 0,
      hits: 0,
    });
    return id;
  }

  set(switches: FaultSwitches): void {
    this.outage = switches.outage ?? this.outage;
    this.ignoreConditions = switches.ignoreConditions ?? this.ignoreConditions;
  }

  clear(): void {
    this.rules = [];
    this.outage = false;
    this.ignoreConditions = false;
  }

  state(): FaultState {
    return {
      rules: this.rules.map(({ id, rule, hits }) => ({ id, rule, hits })),
      outage: this.outage,
      ignoreConditions: this.ignoreConditions,
      requests: { ...this.requests },
    };
  }

  /** What is to happen to this request, if anything. Used-up rules stay in the list for their hit count. */
  take(target: FaultTarget): FaultAction | undefined {
    this.requests[target.operation] = (this.requests[target.operation] ?? 0) + 1;
    if (this.outage === 'error') return { kind: 'error', status: 503 };
    if (this.outage === 'reset') return { kind: 'reset-before' };
    for (const entry of this.rules) {
      const { rule } = entry;
      if (entry.hits >= rule.times) continue;
      if (rule.operation !== undefined && rule.operation !== target.operation) continue;
      if (rule.bucket !== undefined && rule.bucket !== target.bucket) continue;
      if (entry.pattern && !entry.pattern.test(target.key ?? '')) continue;
      if (entry.skipped < rule.skip) {
        entry.skipped++;
        continue;
      }
      entry.hits++;
      return rule.action;
    }
    return undefined;
  }
}
