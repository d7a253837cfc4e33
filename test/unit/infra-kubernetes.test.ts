import { existsSync } from 'node:fs';
import { describe, expect, test, vi } from 'vitest';
import { loadConfig } from '../../src/platform/config.js';
import { QUEUE_PREFIX, QUEUES } from '../../src/platform/keys.js';
import type { Timings } from '../../src/platform/timings.js';
import { manifestSchema, type PodTemplate } from '../support/kubernetes-schemas.js';
import { buildKustomization, type Manifest } from '../support/kustomize.js';

vi.setConfig({ testTimeout: 60_000 });

type Parsed = ReturnType<typeof manifestSchema.parse>;
const overlay = (name: string): Manifest[] => buildKustomization(`infra/kubernetes/overlays/${name}`);
const parsed = (name: string): Parsed[] => overlay(name).map((manifest) => manifestSchema.parse(manifest));

function templateOf(manifest: Parsed): PodTemplate | undefined {
  if (manifest.kind === 'Deployment') return manifest.spec.template;
  if (manifest.kind === 'LeaderWorkerSet') return manifest.spec.leaderWorkerTemplate.workerTemplate;
  return undefined;
}

function timingsOf({ containers }: PodTemplate['spec']): Timings {
  const given = containers[0]?.env?.find((variable) => variable.name === 'LONGHAUL_DRAIN_SECONDS');
  const environment = given !== undefined && 'value' in given ? { LONGHAUL_DRAIN_SECONDS: given.value } : {};
  return loadConfig({ environment, directory: '/nonexistent' }).timings;
}

/** What the policy of this project forbids in a pod. */
function policyProblems({ metadata: { labels }, spec }: PodTemplate): string[] {
  const { drain, abort } = timingsOf(spec);
  // A follower waits for its leader's drain, then for its own way out of the run.
  const leave = labels['role'] === 'rank' ? drain + 2 * abort : drain + abort;
  const checks: [boolean, string][] = [
    [spec.securityContext.runAsNonRoot, 'may run as root'],
    [spec.securityContext.seccompProfile.type === 'RuntimeDefault', 'has no seccomp profile'],
    [!spec.automountServiceAccountToken, 'holds a token of the cluster'],
    [!spec.enableServiceLinks, 'gets variables named LONGHAUL_... from Services'],
    [spec.terminationGracePeriodSeconds * 1000 > leave, 'is killed before a drain has ended'],
    ...spec.containers.flatMap(
      ({ image, resources, securityContext, livenessProbe, readinessProbe }): [boolean, string][] => [
        [/^[^@]+:v?\d[\w.-]*$/.test(image), `${image} has no version tag`],
        [resources.limits['cpu'] !== undefined, 'has no limit of cpu'],
        [resources.limits['memory'] !== undefined, 'has no limit of memory'],
        [securityContext.readOnlyRootFilesystem, 'may write to its root'],
        [livenessProbe !== undefined && readinessProbe !== undefined, 'has no probes'],
        [!securityContext.allowPrivilegeEscalation, 'may gain privileges'],
        [securityContext.capabilities.drop.includes('ALL'), 'keeps capabilities'],
      ],
    ),
  ];
  return checks.flatMap(([kept, problem]) => (kept ? [] : [problem]));
}

describe.each(['cpu', 'gpu'])('overlay %s', (name) => {
  test('is made of manifests that their schemas take, no two of one name', () => {
    const names = parsed(name).map(({ kind, metadata }) => `${kind} ${metadata.namespace}/${metadata.name}`);
    expect(names.length).toBeGreaterThan(15);
    expect(new Set(names).size).toBe(names.length);
  });

  test('whoever reads the model finds it, and batches are for cohorts of the size that there is', () => {
    const all = parsed(name);
    const settings = all.find((manifest) => manifest.kind === 'ConfigMap');
    const { LONGHAUL_RANKS: ranks, LONGHAUL_MODEL_DIR: model } = settings?.data ?? {};
    const cohorts = all.find((manifest) => manifest.kind === 'LeaderWorkerSet');
    expect(Number(ranks)).toBe(cohorts?.spec.leaderWorkerTemplate.size);
    if (model === undefined) return; // the image's own
    const readers = ['longhaul', 'longhaul-aggregator', 'longhaul-gateway', 'longhaul-scheduler'];
    for (const reader of readers) {
      const template = all
        .filter(({ metadata }) => metadata.name === reader)
        .map(templateOf)
        .find((found) => found !== undefined);
      const [container] = template?.spec.containers ?? [];
      const mount = container?.volumeMounts?.find(({ mountPath }) => model.startsWith(`${mountPath}/`));
      expect(mount, reader).toBeDefined();
      expect(
        template?.spec.volumes?.some(({ name: volume }) => volume === mount?.name),
        reader,
      ).toBe(true);
    }
  });

  test('keeps the policy: no root, limits, version tags', () => {
    const templates = parsed(name).flatMap((manifest) => templateOf(manifest) ?? []);
    expect(templates).toHaveLength(5);
    for (const template of templates)
      expect(policyProblems(template), template.metadata.labels['role']).toEqual([]);
  });

  test('what is referred to is there', () => {
    const all = parsed(name);
    const has = (kind: string, wanted: string) =>
      all.some((one) => one.kind === kind && one.metadata.name === wanted);
    const roles = new Set<string>();
    for (const manifest of all) {
      const template = templateOf(manifest);
      if (template === undefined) continue;
      roles.add(template.metadata.labels['role'] ?? '');
      expect(has('ServiceAccount', template.spec.serviceAccountName)).toBe(true);
      const volumes = template.spec.volumes.map((volume) => volume.name);
      for (const { volumeMounts } of template.spec.containers)
        for (const mount of volumeMounts) expect(volumes).toContain(mount.name);
    }
    for (const manifest of all) {
      if (manifest.kind === 'ServiceAccount')
        expect(existsSync(manifest.metadata.annotations?.['longhaul/s3-policy'] ?? '')).toBe(true);
      if (manifest.kind === 'HorizontalPodAutoscaler' || manifest.kind === 'ScaledObject')
        expect(has(manifest.spec.scaleTargetRef.kind, manifest.spec.scaleTargetRef.name)).toBe(true);
      if (manifest.kind === 'PodDisruptionBudget')
        expect(roles).toContain(manifest.spec.selector.matchLabels['role']);
      if (manifest.kind === 'ScaledObject')
        for (const { authenticationRef } of manifest.spec.triggers)
          expect(has('TriggerAuthentication', authenticationRef.name)).toBe(true);
    }
  });

  test('a rank is what its place in the group says, as longhaul takes it', () => {
    const set = parsed(name).find((manifest) => manifest.kind === 'LeaderWorkerSet');
    const { size, restartPolicy, workerTemplate } = set!.spec.leaderWorkerTemplate;
    expect(restartPolicy).toBe('RecreateGroupOnPodRestart');
    const [container] = workerTemplate.spec.containers;
    const given: Record<string, string> = {
      LWS_WORKER_INDEX: String(size - 1),
      LWS_GROUP_SIZE: String(size),
      COHORT_SET: set!.metadata.name,
      COHORT_GROUP: '2',
      POD_IP: '10.1.2.3',
    };
    const [command, ...flags] = container!.args.map((arg) =>
      arg.replace(/\$\((\w+)\)/g, (_, variable: string) => given[variable] ?? `unknown ${variable}`),
    );
    expect(command).toBe('worker');
    const renamed: Record<string, string> = { model: 'modelDir' };
    const settings = Object.fromEntries(
      flags.map((flag) => {
        const [, key = '', value = ''] = /^--([a-z]+)=(.+)$/.exec(flag) ?? [];
        return [renamed[key] ?? key, value];
      }),
    );
    const config = loadConfig({ flags: settings, environment: {}, directory: '/nonexistent' });
    expect(config).toMatchObject({
      rank: 3,
      ranks: 4,
      cohort: 'longhaul-2',
      host: '10.1.2.3',
      backend: name === 'gpu' ? 'cuda' : 'cpu',
    });
    // The variables that are not the controller's are declared.
    expect(container!.env?.map((variable) => variable.name)).toEqual([
      'COHORT_SET',
      'COHORT_GROUP',
      'POD_IP',
      ...(name === 'gpu' ? ['LONGHAUL_DRAIN_SECONDS'] : []),
    ]);
  });

  test('cohorts are scaled by what waits and runs in the queue of documents', () => {
    const scaled = parsed(name).find((manifest) => manifest.kind === 'ScaledObject');
    const { triggers, advanced, scaleTargetRef } = scaled!.spec;
    expect(scaleTargetRef.kind).toBe('LeaderWorkerSet');
    const lists = Object.fromEntries(triggers.map((trigger) => [trigger.name, trigger.metadata.listName]));
    const queue = `${QUEUE_PREFIX}:${QUEUES.documents}`;
    expect(lists).toEqual({
      waiting: `${queue}:wait`,
      prioritized: `${queue}:prioritized`,
      active: `${queue}:active`,
    });
    expect(advanced.scalingModifiers.formula.split(' + ').sort()).toEqual(Object.keys(lists).sort());
  });

  test('every pod tells its metrics where its settings say, to Prometheus and to its probes', () => {
    const all = parsed(name);
    const map = all.find((manifest) => manifest.kind === 'ConfigMap');
    const config = loadConfig({ environment: map!.data, directory: '/nonexistent' });
    expect(config).toMatchObject({ metricsPortByRank: false, metricsHost: '0.0.0.0' });
    for (const { metadata, spec } of all.flatMap((manifest) => templateOf(manifest) ?? [])) {
      expect(metadata.annotations).toEqual({
        'prometheus.io/scrape': 'true',
        'prometheus.io/port': String(config.metricsPort),
      });
      const [container] = spec.containers;
      const port = container!.ports?.find((each) => each.name === 'metrics');
      expect(port?.containerPort).toBe(config.metricsPort);
      expect(container!.livenessProbe?.httpGet).toEqual({ path: '/healthz', port: 'metrics' });
      expect(container!.readinessProbe?.httpGet).toEqual({ path: '/readyz', port: 'metrics' });
    }
    const metrics = all.find(
      (manifest) => manifest.kind === 'NetworkPolicy' && manifest.metadata.name === 'longhaul-metrics',
    );
    expect(metrics).toMatchObject({
      spec: {
        podSelector: { matchLabels: { app: 'longhaul' } },
        ingress: [
          { ports: [{ port: 'metrics' }], from: [{ namespaceSelector: expect.anything() as unknown }] },
        ],
      },
    });
  });

  test('every deployment and the ranks have a budget of disruptions that lets a node be drained', () => {
    const all = parsed(name);
    const replicas = new Map<string, number>();
    for (const manifest of all) {
      const role = templateOf(manifest)?.metadata.labels['role'];
      if (role === undefined) continue;
      if (manifest.kind === 'LeaderWorkerSet') replicas.set(role, manifest.spec.leaderWorkerTemplate.size);
      if (manifest.kind === 'Deployment') replicas.set(role, manifest.spec.replicas ?? 1);
    }
    for (const manifest of all)
      if (manifest.kind === 'HorizontalPodAutoscaler')
        replicas.set(manifest.spec.scaleTargetRef.name.replace('longhaul-', ''), manifest.spec.minReplicas);
    expect(replicas.size).toBe(5);
    for (const [role, least] of replicas) {
      const budget = all.find(
        (one) => one.kind === 'PodDisruptionBudget' && one.spec.selector.matchLabels['role'] === role,
      );
      expect(budget, role).toBeDefined();
      const spec = budget?.kind === 'PodDisruptionBudget' ? budget.spec : undefined;
      expect(least - (spec?.minAvailable ?? least - (spec?.maxUnavailable ?? 0)), role).toBeGreaterThan(0);
    }
  });

  test('settings of the ConfigMap are settings of longhaul, and no secret is among them', () => {
    const [map] = parsed(name).filter((manifest) => manifest.kind === 'ConfigMap');
    expect(() => loadConfig({ environment: map!.data, directory: '/nonexistent' })).not.toThrow();
    expect(JSON.stringify(overlay(name))).not.toMatch(/"(kind":"Secret|LONGHAUL_REDIS_URL|AWS_SECRET)/);
  });
});

test('the GPU overlay gives each rank one GPU, and a cohort one node', () => {
  const set = parsed('gpu').find((manifest) => manifest.kind === 'LeaderWorkerSet');
  expect(set?.metadata.annotations).toEqual({
    'leaderworkerset.sigs.k8s.io/exclusive-topology': 'kubernetes.io/hostname',
  });
  const [container] = set!.spec.leaderWorkerTemplate.workerTemplate.spec.containers;
  expect(container?.resources.limits['nvidia.com/gpu']).toBe(1);
});

test('the policy sees what breaks it, and a schema a field that is not there', () => {
  const template = parsed('cpu').flatMap((manifest) => templateOf(manifest) ?? [])[0]!;
  const { spec } = template;
  const [container] = spec.containers;
  const problems = (change: object, inContainer: object = {}) =>
    policyProblems({
      ...template,
      spec: { ...spec, ...change, containers: [{ ...container!, ...inContainer }] },
    });
  expect(problems({ securityContext: { ...spec.securityContext, runAsNonRoot: false } })).toEqual([
    'may run as root',
  ]);
  expect(problems({ terminationGracePeriodSeconds: 30 })).toEqual(['is killed before a drain has ended']);
  expect(problems({}, { livenessProbe: undefined })).toEqual(['has no probes']);
  expect(problems({ enableServiceLinks: true })).toHaveLength(1);
  expect(problems({}, { image: 'longhaul:latest' })).toEqual(['longhaul:latest has no version tag']);
  expect(problems({}, { resources: { requests: {}, limits: { cpu: '1' } } })).toEqual([
    'has no limit of memory',
  ]);
  const set = overlay('cpu').find(({ kind }) => kind === 'LeaderWorkerSet')!;
  expect(manifestSchema.safeParse({ ...set, spec: { ...(set.spec as object), replica: 2 } }).success).toBe(
    false,
  );
});
