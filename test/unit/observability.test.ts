/** infra/prometheus by promtool, infra/grafana by its schema, and both by the metrics and the runbook that there are. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { loadConfig } from '../../src/platform/config.js';
import { registry } from '../../src/platform/metrics.js';
import { dashboardSchema } from '../support/grafana-schema.js';

vi.setConfig({ testTimeout: 60_000 });

const RULES = 'infra/prometheus/rules.yaml';
const CASES = 'infra/prometheus/rules.test.yaml';
const read = (path: string) => readFileSync(path, 'utf8');

const alert = z.strictObject({
  alert: z.string().regex(/^Longhaul[A-Za-z0-9]+$/),
  expr: z.string(),
  for: z.string().optional(),
  labels: z.strictObject({ severity: z.enum(['warning', 'critical']) }),
  annotations: z.strictObject({ summary: z.string().min(10), runbook_url: z.string() }),
});
const record = z.strictObject({ record: z.string().startsWith('longhaul:'), expr: z.string() });
const rules = z
  .strictObject({
    groups: z.array(z.strictObject({ name: z.string(), rules: z.array(z.union([alert, record])) })).length(1),
  })
  .parse(parse(read(RULES)))
  .groups.flatMap((group) => group.rules);
const alerts = rules.flatMap((rule) => ('alert' in rule ? [rule] : []));
const records = rules.flatMap((rule) => ('record' in rule ? [rule.record] : []));
const dashboard = dashboardSchema.parse(JSON.parse(read('infra/grafana/longhaul.json')));
const targets = dashboard.panels.flatMap((panel) => (panel.type === 'row' ? [] : panel.targets));
const panelExpressions = [
  ...targets.map(({ expr }) => expr),
  ...dashboard.annotations.list.map(({ expr }) => expr),
];

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'observability-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function promtool(...args: string[]): { ok: boolean; said: string } {
  const unpacked = resolve('.longhaul/tools/promtool');
  const command = existsSync(unpacked) ? unpacked : 'promtool';
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (error !== undefined)
    throw new Error('promtool is missing; infra/setup/promtool.sh gets it', { cause: error });
  return { ok: status === 0, said: stdout + stderr };
}
function written(name: string, value: unknown): string {
  const path = join(folder, name);
  writeFileSync(path, stringify(value));
  return path;
}
const passes = { ok: true, said: expect.stringContaining('SUCCESS') as string };

test('the script that gets promtool finds it', () => {
  execFileSync('bash', ['infra/setup/promtool.sh']);
});

test('the rules are rules, and fire when they should and not before', () => {
  expect(promtool('check', 'rules', RULES)).toEqual(passes);
  expect(promtool('test', 'rules', CASES)).toEqual(passes);
});

test('a rule that fires too late is seen by its cases', () => {
  const late = read(RULES).replace('oldest_seconds:max > 3600', 'oldest_seconds:max > 36000');
  expect(late).not.toBe(read(RULES));
  writeFileSync(join(folder, 'rules.yaml'), late);
  writeFileSync(join(folder, 'rules.test.yaml'), read(CASES));
  expect(promtool('test', 'rules', join(folder, 'rules.test.yaml'))).toMatchObject({ ok: false });
});

test('each alert has a case in which it fires, and one in which it does not', () => {
  interface Case {
    alert_rule_test?: { alertname: string; exp_alerts?: unknown[] }[];
  }
  const cases = (parse(read(CASES)) as { tests: Case[] }).tests.flatMap((one) => one.alert_rule_test ?? []);
  const names = (fires: boolean) =>
    new Set(cases.filter((one) => (one.exp_alerts !== undefined) === fires).map((one) => one.alertname));
  const all = new Set(alerts.map((one) => one.alert));
  expect(names(true)).toEqual(all);
  expect(names(false)).toEqual(all);
});

test('each alert has its part of the runbook, and each part its alert', () => {
  const headings = [...read('docs/runbook.md').matchAll(/^## (.+)$/gm)].map(([, heading]) => heading);
  expect(alerts.map((one) => one.alert)).toEqual(headings);
  for (const { alert: name, annotations } of alerts)
    expect(annotations.runbook_url).toBe(`docs/runbook.md#${name.toLowerCase()}`);
});

test('the bound of uncommitted answers is the setting', () => {
  const { uncommittedBound } = loadConfig({ environment: {}, directory: '/nonexistent' });
  const rule = alerts.find((one) => one.alert === 'LonghaulAnswersUncommitted');
  expect(rule?.expr).toContain(`>= ${uncommittedBound}`);
});

/** Series that a scrape has, as docs/metrics.md lists them. */
function series(): Set<string> {
  const page = read('docs/metrics.md');
  const rows = [...page.matchAll(/^\| `(\w+)` \| (\w+) \|/gm)];
  return new Set(
    rows.flatMap(([, name = '', kind]) =>
      kind === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  );
}
const named = (expression: string) =>
  expression.match(/\b(?:longhaul|gen_ai_server|bullmq)[:_][\w:]+/g) ?? [];

test('every metric that rules and dashboard name is there, and every recorded series is used', () => {
  const known = new Set([...series(), ...records]);
  expect(known.size).toBeGreaterThan(registry.getMetricsAsArray().length);
  const queries = dashboard.templating.list.map(({ query }) => JSON.stringify(query));
  const expressions = [...rules.map(({ expr }) => expr), ...panelExpressions, ...queries];
  const used = expressions.flatMap(named);
  expect(used.length).toBeGreaterThan(50);
  expect(used.filter((name) => !known.has(name))).toEqual([]);
  expect(records.filter((name) => !used.includes(name))).toEqual([]);
});

test('every expression of the dashboard is one of Prometheus, and its variables are declared', () => {
  const variables = [...dashboard.templating.list.map(({ name }) => name), '__rate_interval'];
  for (const expression of panelExpressions)
    for (const [, name = ''] of expression.matchAll(/\$\{?(\w+)/g)) expect(variables).toContain(name);
  const filled = panelExpressions.map((expr) =>
    expr.replaceAll('$__rate_interval', '1m').replaceAll('$cohort', '.*'),
  );
  const group = (expressions: string[]) => ({
    groups: [
      { name: 'panels', rules: expressions.map((expr, index) => ({ record: `panel:p${index}`, expr })) },
    ],
  });
  expect(promtool('check', 'rules', written('panels.yaml', group(filled)))).toEqual(passes);
  const broken = written('broken.yaml', group(['sum by (state (longhaul_queue_items)']));
  expect(promtool('check', 'rules', broken).ok).toBe(false);
});

test('panels lie beside each other, and no two have one number', () => {
  const { panels } = dashboard;
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  const taken = new Set<string>();
  for (const { title, gridPos } of panels) {
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        expect(taken.has(`${x},${y}`), `${title} lies on another panel`).toBe(false);
        taken.add(`${x},${y}`);
      }
  }
});

test('the scrape configurations are configurations of Prometheus, with the job that the alerts ask for', () => {
  expect(promtool('check', 'config', 'infra/prometheus/prometheus.yaml')).toEqual(passes);
  // Debian's promtool knows no discovery in Kubernetes, so that part is held to a schema and the rest to promtool.
  const discovery = z.strictObject({
    role: z.literal('pod'),
    namespaces: z.strictObject({ names: z.tuple([z.literal('longhaul')]) }),
  });
  const cluster = parse(read('infra/prometheus/prometheus-kubernetes.yaml')) as {
    rule_files: string[];
    scrape_configs: { job_name: string; kubernetes_sd_configs?: unknown }[];
  };
  const [job] = cluster.scrape_configs;
  z.tuple([discovery]).parse(job!.kubernetes_sd_configs);
  delete job!.kubernetes_sd_configs;
  cluster.rule_files = [resolve(RULES)];
  expect(promtool('check', 'config', written('kubernetes.yaml', cluster))).toEqual(passes);
  const local = parse(read('infra/prometheus/prometheus.yaml')) as typeof cluster;
  for (const { scrape_configs } of [local, cluster])
    expect(scrape_configs.map(({ job_name }) => job_name)).toEqual(['longhaul']);
});
