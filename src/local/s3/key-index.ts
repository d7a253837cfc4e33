/**
 * Keys in the order S3 lists them, which is that of their UTF-8 bytes. JavaScript compares UTF-16
 * units, which differs above U+FFFF: surrogates must sort after everything else.
 */
export function compareKeys(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) return lift(x) - lift(y);
  }
  return a.length - b.length;
}

const lift = (unit: number): number =>
  unit >= 0xe000 ? unit - 0x800 : unit >= 0xd800 ? unit + 0x2000 : unit;

export interface ListQuery {
  prefix: string;
  delimiter: string;
  /** Only keys after this one. */
  startAfter: string;
  maxKeys: number;
}

export interface Listed<T> {
  items: { key: string; value: T }[];
  commonPrefixes: string[];
  /** Where the next page starts, if there is one: the last key or common prefix of this page. */
  last?: { key: string; isPrefix: boolean };
  truncated: boolean;
}

/** A map with sorted keys. A bucket's index is one of these, filled from the folder at start. */
export class KeyIndex<T> {
  private readonly values = new Map<string, T>();
  private sorted: string[] = [];
  private dirty = false;

  get size(): number {
    return this.values.size;
  }

  get(key: string): T | undefined {
    return this.values.get(key);
  }

  set(key: string, value: T): void {
    if (!this.values.has(key)) {
      // Most keys are written once and listed later, so the order is made when it is asked for.
      this.sorted.push(key);
      this.dirty = true;
    }
    this.values.set(key, value);
  }

  delete(key: string): void {
    if (!this.values.delete(key)) return;
    this.order();
    const at = this.lowerBound(key);
    if (this.sorted[at] === key) this.sorted.splice(at, 1);
  }

  private order(): void {
    if (!this.dirty) return;
    this.sorted.sort(compareKeys);
    this.dirty = false;
  }

  private lowerBound(key: string, from = 0): number {
    let low = from;
    let high = this.sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareKeys(this.sorted[middle] as string, key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The first position at or after `from` whose key does not start with `prefix`. */
  private after(prefix: string, from: number): number {
    let at = this.lowerBound(`${prefix}\u{10ffff}`, from);
    while (this.sorted[at]?.startsWith(prefix)) at++;
    return at;
  }

  list(query: ListQuery, resume?: { key: string; isPrefix: boolean }): Listed<T> {
    this.order();
    const { prefix, delimiter, maxKeys } = query;
    const start =
      resume && !resume.isPrefix && compareKeys(resume.key, query.startAfter) > 0
        ? resume.key
        : query.startAfter;
    let at = this.lowerBound(prefix);
    if (start !== '') {
      at = Math.max(at, this.lowerBound(start));
      if (this.sorted[at] === start) at++;
    }
    if (resume?.isPrefix) at = Math.max(at, this.after(resume.key, this.lowerBound(resume.key)));
    const out: Listed<T> = { items: [], commonPrefixes: [], truncated: false };
    if (maxKeys === 0) return out;
    for (;;) {
      const key = this.sorted[at];
      if (key === undefined || !key.startsWith(prefix)) return out;
      if (out.items.length + out.commonPrefixes.length >= maxKeys) {
        out.truncated = true;
        return out;
      }
      const cut = delimiter === '' ? -1 : key.indexOf(delimiter, prefix.length);
      if (cut >= 0) {
        const common = key.slice(0, cut + delimiter.length);
        out.commonPrefixes.push(common);
        out.last = { key: common, isPrefix: true };
        at = this.after(common, at);
      } else {
        out.items.push({ key, value: this.values.get(key) as T });
        out.last = { key, isPrefix: false };
        at++;
      }
    }
  }
}
