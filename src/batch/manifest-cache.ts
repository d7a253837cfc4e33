import type { ObjectStore } from '../platform/object-store.js';
import { readManifest, type IndexedManifest } from './manifest.js';

/** Manifests are immutable, so an aggregator keeps those in use; bounded by the number of requests. */
export class ManifestCache {
  private readonly entries = new Map<string, Promise<IndexedManifest>>();
  private readonly sizes = new Map<string, number>();

  constructor(
    private readonly store: ObjectStore,
    private readonly maxRequests = 200_000,
  ) {}

  async get(id: string): Promise<IndexedManifest> {
    // One read serves all who wait for it, so it does not hang on the signal of one of them; the
    // store's own timeouts bound it.
    const entry = this.entries.get(id) ?? readManifest(this.store, id);
    this.entries.delete(id);
    this.entries.set(id, entry);
    try {
      const manifest = await entry;
      this.sizes.set(id, manifest.requests.length);
      this.evict(id);
      return manifest;
    } catch (error) {
      if (this.entries.get(id) === entry) this.entries.delete(id);
      throw error;
    }
  }

  drop(id: string): void {
    this.entries.delete(id);
    this.sizes.delete(id);
  }

  /** Least recently used first, never the one just asked for. */
  private evict(keep: string): void {
    let total = [...this.sizes.values()].reduce((sum, size) => sum + size, 0);
    for (const id of this.entries.keys()) {
      if (total <= this.maxRequests) return;
      if (id === keep) continue;
      total -= this.sizes.get(id) ?? 0;
      this.drop(id);
    }
  }
}
