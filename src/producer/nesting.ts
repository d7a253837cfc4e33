/** No request line goes deeper, and what walks or prints a value by recursion bears far more. */
export const MAX_NESTING = 32;

/** Whether objects and arrays lie in each other more than `limit` deep. Without recursion, which hostile nesting exhausts. */
export function deeperThan(value: unknown, limit: number): boolean {
  let level: object[] = isContainer(value) ? [value] : [];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth === limit) return true;
    level = level.flatMap((container) => Object.values(container).filter(isContainer));
  }
  return false;
}

function isContainer(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
