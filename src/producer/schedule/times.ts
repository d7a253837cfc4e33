/** When a schedule is due, and how a run is named after that. */
import { CronExpressionParser } from 'cron-parser';
import type { Schedule } from '../../contracts/schedule.js';
import { ConfigError } from '../../platform/errors.js';

type Clock = Pick<Schedule, 'cron' | 'tz'>;

/** @throws ConfigError for a pattern or time zone that does not exist. */
export function checkClock({ cron, tz }: Clock): void {
  try {
    new Intl.DateTimeFormat('en', { timeZone: tz });
  } catch (cause) {
    throw new ConfigError(`--tz ${tz} is no time zone; give one like Europe/Berlin or UTC`, { cause });
  }
  try {
    CronExpressionParser.parse(cron, { tz }).next();
  } catch (cause) {
    const detail = cause instanceof Error ? cause.message : String(cause);
    throw new ConfigError(
      `--cron "${cron}" is no cron pattern (${detail}); give minute, hour, day, month, weekday, like "0 6 * * *"`,
      { cause },
    );
  }
}

/** The latest due time at or before `now`. */
export function latestDue({ cron, tz }: Clock, now: Date): Date {
  // `prev` leaves out the moment itself.
  return CronExpressionParser.parse(cron, { tz, currentDate: new Date(now.getTime() + 1) })
    .prev()
    .toDate();
}

export function nextDue({ cron, tz }: Clock, now: Date): Date {
  return CronExpressionParser.parse(cron, { tz, currentDate: now }).next().toDate();
}

/** `20261125T060000Z`: names of runs sort by time. */
export function runName(time: Date): string {
  return time.toISOString().replace(/[-:]|\.\d+/g, '');
}
