/**
 * Schema of infra/grafana/longhaul.json, written after Grafana's dashboard JSON model (schema version 39): of its fields
 * those that are used here, and no other field passes.
 */
import { z } from 'zod';

const datasource = z.strictObject({ type: z.literal('prometheus'), uid: z.literal('${datasource}') });
const grid = z
  .strictObject({
    x: z.int().min(0),
    y: z.int().min(0),
    w: z.int().min(1).max(24),
    h: z.int().min(1),
  })
  .refine(({ x, w }) => x + w <= 24, 'is wider than the page');
const step = z.strictObject({ value: z.number().nullable(), color: z.enum(['green', 'orange', 'red']) });
const shared = {
  id: z.int().min(1),
  title: z.string().min(1),
  gridPos: grid,
};
const withData = {
  ...shared,
  description: z.string().min(1),
  datasource,
  fieldConfig: z.strictObject({
    defaults: z.strictObject({
      unit: z.enum(['short', 's', 'percentunit', 'reqps', 'bytes']),
      min: z.number(),
      thresholds: z.strictObject({ mode: z.literal('absolute'), steps: z.array(step).min(1) }).optional(),
    }),
    overrides: z.tuple([]),
  }),
  targets: z
    .array(
      z.strictObject({
        refId: z.string().regex(/^[A-Z]$/),
        datasource,
        expr: z.string().min(1),
        legendFormat: z.string().min(1),
      }),
    )
    .min(1),
};
const panel = z.discriminatedUnion('type', [
  z.strictObject({ ...shared, type: z.literal('row'), collapsed: z.literal(false), panels: z.tuple([]) }),
  z.strictObject({
    ...withData,
    type: z.literal('stat'),
    options: z.strictObject({
      reduceOptions: z.strictObject({
        calcs: z.tuple([z.literal('lastNotNull')]),
        fields: z.literal(''),
        values: z.literal(false),
      }),
      colorMode: z.enum(['none', 'value', 'background']),
      graphMode: z.enum(['none', 'area']),
    }),
  }),
  z.strictObject({
    ...withData,
    type: z.literal('timeseries'),
    options: z.strictObject({
      legend: z.strictObject({
        displayMode: z.enum(['list', 'table']),
        placement: z.enum(['bottom', 'right']),
        showLegend: z.boolean(),
      }),
      tooltip: z.strictObject({ mode: z.enum(['single', 'multi']), sort: z.enum(['none', 'asc', 'desc']) }),
    }),
  }),
]);
const variable = { name: z.string().regex(/^\w+$/), label: z.string(), current: z.strictObject({}) };

export const dashboardSchema = z.strictObject({
  uid: z.string().max(40),
  title: z.string(),
  description: z.string(),
  tags: z.array(z.string()),
  schemaVersion: z.literal(39),
  version: z.int(),
  editable: z.boolean(),
  graphTooltip: z.union([z.literal(0), z.literal(1), z.literal(2)]),
  refresh: z.string().regex(/^\d+[smh]$/),
  timezone: z.enum(['browser', 'utc']),
  time: z.strictObject({ from: z.string().startsWith('now-'), to: z.literal('now') }),
  annotations: z.strictObject({
    list: z.array(
      z.strictObject({
        name: z.string(),
        datasource,
        enable: z.boolean(),
        iconColor: z.string(),
        expr: z.string(),
        titleFormat: z.string(),
        textFormat: z.string(),
        step: z.string(),
      }),
    ),
  }),
  templating: z.strictObject({
    list: z.array(
      z.discriminatedUnion('type', [
        z.strictObject({
          ...variable,
          type: z.literal('datasource'),
          query: z.literal('prometheus'),
          hide: z.int(),
        }),
        z.strictObject({
          ...variable,
          type: z.literal('query'),
          datasource,
          query: z.strictObject({ query: z.string(), refId: z.string() }),
          refresh: z.literal(2),
          includeAll: z.boolean(),
          multi: z.boolean(),
          allValue: z.string(),
          hide: z.int(),
        }),
      ]),
    ),
  }),
  panels: z.array(panel),
});
