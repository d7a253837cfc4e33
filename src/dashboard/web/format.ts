const whole = new Intl.NumberFormat('en');

export const count = (value: number): string => whole.format(value);

/** 950, 1.2 k, 34 k, 1.2 M */
export function short(value: number): string {
  if (value < 1000) return value < 10 && value % 1 !== 0 ? value.toFixed(1) : String(Math.round(value));
  const [scaled, unit] =
    value < 1e6 ? [value / 1e3, 'k'] : value < 1e9 ? [value / 1e6, 'M'] : [value / 1e9, 'G'];
  return `${scaled < 10 ? scaled.toFixed(1) : Math.round(scaled)} ${unit}`;
}

/** 0.4 s, 12 s, 3 m 20 s, 2 h 5 m, 3 d 4 h */
export function duration(seconds: number): string {
  if (seconds < 0.0995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const pairs = [
    [86_400, 'd', 3600, 'h'],
    [3600, 'h', 60, 'm'],
    [60, 'm', 1, 's'],
  ] as const;
  const [size, unit, small, smallUnit] = pairs.find(([length]) => whole >= length) ?? pairs[2];
  const rest = Math.floor((whole % size) / small);
  return `${Math.floor(whole / size)} ${unit}${rest > 0 ? ` ${rest} ${smallUnit}` : ''}`;
}

/** 0, 0.22 ms, 312 ms, 3.21 s, then as durations. */
export function milliseconds(ms: number): string {
  if (ms === 0) return '0';
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 10_000 ? `${(ms / 1000).toFixed(2)} s` : duration(ms / 1000);
}

/** One unit only, for axes. */
export function axisSeconds(seconds: number): string {
  const [scaled, unit] =
    seconds < 120 ? [seconds, 's'] : seconds < 7200 ? [seconds / 60, 'm'] : [seconds / 3600, 'h'];
  return `${scaled < 10 ? Number(scaled.toFixed(1)) : Math.round(scaled)} ${unit}`;
}

export const ago = (seconds: number): string => `${duration(Math.max(0, seconds))} ago`;

/** 512 MB, 1.4 GB: powers of 1024, as nvidia-smi and top count. */
export function bytes(value: number): string {
  const giga = value / 1024 ** 3;
  if (giga >= 1) return `${giga < 10 ? giga.toFixed(1) : Math.round(giga)} GB`;
  return `${Math.round(value / 1024 ** 2)} MB`;
}

export const percent = (share: number): string => `${Math.round(share * 100)} %`;

/** Requests per second, in the unit that reads best. */
export function pace(perSecond: number): string {
  if (perSecond >= 10) return `${Math.round(perSecond)} /s`;
  if (perSecond * 60 >= 10) return `${Math.round(perSecond * 60)} /min`;
  return perSecond * 60 >= 1 ? `${(perSecond * 60).toFixed(1)} /min` : `${(perSecond * 3600).toFixed(1)} /h`;
}

export const dateTime = (ms: number): string =>
  new Date(ms).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });

/** Of a time today the clock is enough. */
export function when(ms: number, now: number): string {
  const at = new Date(ms);
  const clock = at.toLocaleTimeString('en-GB');
  return at.toDateString() === new Date(now).toDateString()
    ? clock
    : `${at.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' })} ${clock.slice(0, 5)}`;
}

/** `batch_0123456789abcdef...` is told from others by its first eight digits. */
export const shortId = (id: string): string => (id.length > 20 ? `${id.slice(0, 14)}…` : id);
