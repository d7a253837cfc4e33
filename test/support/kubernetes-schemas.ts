/**
 * Schemas of the manifests in infra/kubernetes, written after the API references of Kubernetes 1.31 (and its rules of
 * names and quantities), LeaderWorkerSet v1 and KEDA v1alpha1: of their fields those that are used here, and no other
 * field passes.
 */
import { z } from 'zod';

const name = z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/);
const port = z.union([z.int().min(1).max(65535), name]);
const labels = z.record(z.string().regex(/^([a-z0-9.-]+\/)?[A-Za-z0-9._-]+$/), z.string().max(63));
const annotations = z.record(z.string().regex(/^([a-z0-9.-]+\/)?[A-Za-z0-9._-]+$/), z.string());
const metadata = z.strictObject({
  name,
  namespace: name,
  labels: labels.optional(),
  annotations: annotations.optional(),
});
const selector = z.strictObject({ matchLabels: labels });
const quantity = z.union([z.int(), z.string().regex(/^\d+(\.\d+)?(m|[kMGTPE]i?)?$/)]);
const quantities = z.record(z.string(), quantity);
const reference = z.strictObject({ name });
const count = z.int().min(0);

const variable = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/);
const probe = z.strictObject({
  httpGet: z.strictObject({ path: z.string().startsWith('/'), port }),
  periodSeconds: z.int().min(1),
  timeoutSeconds: z.int().min(1),
  failureThreshold: z.int().min(1).optional(),
});
const container = z.strictObject({
  name,
  image: z.string(),
  args: z.array(z.string()),
  env: z
    .array(
      z.union([
        z.strictObject({
          name: variable,
          valueFrom: z.strictObject({ fieldRef: z.strictObject({ fieldPath: z.string() }) }),
        }),
        z.strictObject({ name: variable, value: z.string() }),
      ]),
    )
    .optional(),
  envFrom: z.array(
    z.union([z.strictObject({ configMapRef: reference }), z.strictObject({ secretRef: reference })]),
  ),
  ports: z.array(z.strictObject({ name, containerPort: z.int().min(1).max(65535) })).optional(),
  livenessProbe: probe.optional(),
  readinessProbe: probe.optional(),
  resources: z.strictObject({ requests: quantities, limits: quantities }),
  securityContext: z.strictObject({
    allowPrivilegeEscalation: z.boolean(),
    readOnlyRootFilesystem: z.boolean(),
    capabilities: z.strictObject({ drop: z.array(z.string()) }),
  }),
  volumeMounts: z.array(
    z.strictObject({ name, mountPath: z.string().startsWith('/'), readOnly: z.boolean().optional() }),
  ),
});
const podTemplate = z.strictObject({
  metadata: z.strictObject({ labels, annotations }),
  spec: z.strictObject({
    serviceAccountName: name,
    automountServiceAccountToken: z.boolean(),
    enableServiceLinks: z.boolean(),
    terminationGracePeriodSeconds: count,
    securityContext: z.strictObject({
      runAsNonRoot: z.boolean(),
      seccompProfile: z.strictObject({ type: z.enum(['RuntimeDefault', 'Localhost', 'Unconfined']) }),
    }),
    containers: z.array(container).min(1),
    volumes: z.array(
      z.union([
        z.strictObject({ name, emptyDir: z.strictObject({ sizeLimit: quantity }) }),
        z.strictObject({
          name,
          persistentVolumeClaim: z.strictObject({ claimName: name, readOnly: z.boolean() }),
        }),
      ]),
    ),
  }),
});
export type PodTemplate = z.infer<typeof podTemplate>;

const of = <const A extends string, const K extends string>(apiVersion: A, kind: K) =>
  z.strictObject({ apiVersion: z.literal(apiVersion), kind: z.literal(kind), metadata });
const target = z.strictObject({ apiVersion: z.string(), kind: z.string(), name });
const direction = z.strictObject({
  from: z
    .array(
      z.union([z.strictObject({ podSelector: selector }), z.strictObject({ namespaceSelector: selector })]),
    )
    .optional(),
  to: z.array(z.strictObject({ podSelector: selector })).optional(),
  ports: z.array(z.strictObject({ protocol: z.enum(['TCP', 'UDP', 'SCTP']), port })).optional(),
});

export const manifestSchema = z.discriminatedUnion('kind', [
  of('v1', 'ConfigMap').extend({ data: z.record(z.string(), z.string()) }),
  of('v1', 'ServiceAccount').extend({ automountServiceAccountToken: z.boolean() }),
  of('v1', 'Service').extend({
    spec: z.strictObject({
      selector: labels,
      ports: z.array(z.strictObject({ name, port, targetPort: port })),
    }),
  }),
  of('apps/v1', 'Deployment').extend({
    spec: z.strictObject({ replicas: count.optional(), selector, template: podTemplate }),
  }),
  of('policy/v1', 'PodDisruptionBudget').extend({
    spec: z
      .strictObject({ minAvailable: count.optional(), maxUnavailable: count.optional(), selector })
      .refine((spec) => (spec.minAvailable === undefined) !== (spec.maxUnavailable === undefined)),
  }),
  of('networking.k8s.io/v1', 'NetworkPolicy').extend({
    spec: z.strictObject({
      podSelector: selector,
      policyTypes: z.array(z.enum(['Ingress', 'Egress'])),
      ingress: z.array(direction.omit({ to: true })).optional(),
      egress: z.array(direction.omit({ from: true })).optional(),
    }),
  }),
  of('autoscaling/v2', 'HorizontalPodAutoscaler').extend({
    spec: z.strictObject({
      scaleTargetRef: target,
      minReplicas: z.int().min(1),
      maxReplicas: z.int().min(1),
      metrics: z.array(
        z.strictObject({
          type: z.literal('Resource'),
          resource: z.strictObject({
            name: z.enum(['cpu', 'memory']),
            target: z.strictObject({
              type: z.literal('Utilization'),
              averageUtilization: z.int().min(1).max(100),
            }),
          }),
        }),
      ),
    }),
  }),
  of('leaderworkerset.x-k8s.io/v1', 'LeaderWorkerSet').extend({
    spec: z.strictObject({
      rolloutStrategy: z.strictObject({
        type: z.literal('RollingUpdate'),
        rollingUpdateConfiguration: z.strictObject({ maxUnavailable: count, maxSurge: count }),
      }),
      leaderWorkerTemplate: z.strictObject({
        size: z.int().min(1),
        restartPolicy: z.enum(['RecreateGroupOnPodRestart', 'RecreateGroupAfterStart', 'None']),
        workerTemplate: podTemplate,
      }),
    }),
  }),
  of('keda.sh/v1alpha1', 'ScaledObject').extend({
    spec: z.strictObject({
      scaleTargetRef: target,
      minReplicaCount: count,
      maxReplicaCount: count,
      pollingInterval: z.int().min(1),
      cooldownPeriod: count,
      advanced: z.strictObject({
        scalingModifiers: z.strictObject({
          formula: z.string(),
          target: z.string().regex(/^\d+(\.\d+)?$/),
          metricType: z.enum(['AverageValue', 'Value']),
        }),
        horizontalPodAutoscalerConfig: z.strictObject({
          behavior: z.strictObject({ scaleDown: z.strictObject({ stabilizationWindowSeconds: count }) }),
        }),
      }),
      triggers: z.array(
        z.strictObject({
          type: z.literal('redis'),
          name: z.string(),
          metadata: z.strictObject({ listName: z.string(), listLength: z.string().regex(/^\d+$/) }),
          authenticationRef: reference,
        }),
      ),
    }),
  }),
  of('keda.sh/v1alpha1', 'TriggerAuthentication').extend({
    spec: z.strictObject({
      secretTargetRef: z.array(z.strictObject({ parameter: z.string(), name, key: z.string() })),
    }),
  }),
]);
