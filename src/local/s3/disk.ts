import { open, type FileHandle } from 'node:fs/promises';

/**
 * How far an acknowledged write has got: with `durable`, to the disk itself (fsync of the file and of
 * the folder that names it), so that it survives the machine; without, to the operating system, so
 * that it survives the death of this process only. Tests that write a lot choose the second.
 */
export class Disk {
  private readonly syncs = new Map<string, { running: Promise<void>; next?: Promise<void> }>();

  constructor(readonly durable: boolean) {}

  async syncFile(handle: FileHandle): Promise<void> {
    if (this.durable) await handle.sync();
  }

  /**
   * Makes the names in a folder durable. Calls that come while one fsync runs share the one after it:
   * the running one may have started before their rename.
   */
  syncDirectory(path: string): Promise<void> {
    if (!this.durable) return Promise.resolve();
    const state = this.syncs.get(path);
    if (!state) {
      const entry: { running: Promise<void>; next?: Promise<void> } = {
        running: fsyncFolder(path).finally(() => {
          if (!entry.next) this.syncs.delete(path);
        }),
      };
      this.syncs.set(path, entry);
      return entry.running;
    }
    state.next ??= state.running
      .catch(() => undefined)
      .then(() => {
        this.syncs.delete(path);
        return this.syncDirectory(path);
      });
    return state.next;
  }
}

async function fsyncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
