/**
 * Builds a Kustomize folder as far as infra/kubernetes uses it: resources, namespace, and JSON patches that add and
 * replace. Anything else in a kustomization is refused, so that nothing is checked that kustomize would build differently.
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import { z } from 'zod';

const operation = z.strictObject({ op: z.enum(['add', 'replace']), path: z.string(), value: z.unknown() });
const kustomization = z.strictObject({
  apiVersion: z.literal('kustomize.config.k8s.io/v1beta1'),
  kind: z.literal('Kustomization'),
  namespace: z.string().optional(),
  resources: z.array(z.string()),
  patches: z
    .array(
      z.strictObject({ target: z.strictObject({ kind: z.string(), name: z.string() }), patch: z.string() }),
    )
    .default([]),
});

export interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string };
  spec?: unknown;
}

/** Applies one JSON patch operation (RFC 6902) in place. */
function apply(target: unknown, { op, path, value }: z.infer<typeof operation>): void {
  const steps = path
    .slice(1)
    .split('/')
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
  const last = steps.pop() ?? '';
  let at = target as Record<string, unknown>;
  for (const step of steps) {
    const next = at[step];
    if (typeof next !== 'object' || next === null) throw new Error(`${path}: there is no ${step}`);
    at = next as Record<string, unknown>;
  }
  if (Array.isArray(at) && op === 'add') {
    if (last !== '-') throw new Error(`${path}: only the end of an array can be added to`);
    at.push(value);
    return;
  }
  if (op === 'replace' && !(last in at)) throw new Error(`${path}: nothing to replace`);
  at[last] = value;
}

export function buildKustomization(folder: string): Manifest[] {
  const { namespace, resources, patches } = kustomization.parse(
    parse(readFileSync(join(folder, 'kustomization.yaml'), 'utf8')),
  );
  const manifests = resources.flatMap((resource) => {
    const path = join(folder, resource);
    if (existsSync(path) && statSync(path).isDirectory()) return buildKustomization(path);
    return parseAllDocuments(readFileSync(path, 'utf8')).map((document) => {
      if (document.errors.length > 0) throw new Error(`${path}: ${document.errors.join('; ')}`);
      return document.toJS() as Manifest;
    });
  });
  for (const { target, patch } of patches) {
    const found = manifests.filter(
      ({ kind, metadata }) => kind === target.kind && metadata.name === target.name,
    );
    if (found.length !== 1)
      throw new Error(`a patch is for ${target.kind} ${target.name}, which is not there once`);
    for (const step of z.array(operation).parse(parse(patch))) apply(found[0], step);
  }
  if (namespace !== undefined) for (const { metadata } of manifests) metadata.namespace = namespace;
  return manifests;
}
