const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;
const MAX_SECONDS = 365 * SECONDS.d;

/** A completion window, `90m` or `24h`, in seconds; undefined when it is none, or longer than a year. */
export function windowSeconds(text: string): number | undefined {
  const [, number = '', unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  const seconds = Number(number) * (SECONDS[unit as keyof typeof SECONDS] ?? 0);
  return seconds >= 1 && seconds <= MAX_SECONDS ? seconds : undefined;
}
