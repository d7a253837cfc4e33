/**
 * The dashboard as people have it: the built command as a process, Debian's Chromium headless, and behind
 * them a real Redis, S3, cohort and aggregator. Needs `make build`; infra/setup/chromium.sh gets the browser.
 */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import axe from 'axe-core';
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';
import { expect } from 'vitest';
import type { Settings } from '../../src/platform/config.js';
import { startCommand, startServer } from '../support/command.js';
import type { RedisService, S3Service } from '../support/services.js';

export const PASSWORD = 'a password for tests';
/** Of PASSWORD, at the least cost that is taken. */
export const PASSWORD_HASH =
  'scrypt$16384$8$1$bG9uZ2hhdWwtdGVzdGluZw$Dhn-dVSRqjV0K5x_iTTbFlqbVYNQLFkusA2pqA27DXU';

function findChromium(): string {
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    for (const folder of folders) {
      try {
        accessSync(join(folder, name), constants.X_OK);
        return join(folder, name);
      } catch {
        // Not here.
      }
    }
  }
  throw new Error('there is no Chromium on PATH; run infra/setup/chromium.sh');
}

/** Chromium needs no sandbox for pages of our own, and as root it has none. */
export const launch = (): Promise<Browser> =>
  chromium.launch({ executablePath: findChromium(), args: ['--no-sandbox', '--disable-dev-shm-usage'] });

export interface Dashboard {
  url: string;
  stop: () => Promise<void>;
}

type Services = { redis: Pick<RedisService, 'url'>; s3: Pick<S3Service, 'settings'> };
const settingsOf = ({ redis, s3 }: Services): Partial<Settings> => ({ redisUrl: redis.url, ...s3.settings });

export async function startDashboard(
  services: Services,
  settings: Partial<Settings> = {},
): Promise<Dashboard> {
  return startServer('dashboard', { ...settingsOf(services), dashboardPort: 0, ...settings });
}

export function startAggregator(services: Services): { stop: () => Promise<void> } {
  const aggregator = startCommand(['aggregator'], settingsOf(services));
  aggregator.child.stdout?.resume();
  return aggregator;
}

/** What no page may do: break its policy, throw, or ask another host for anything. */
export class Offences {
  readonly found: string[] = [];

  async watch(context: BrowserContext, origin: string): Promise<void> {
    await context.exposeFunction('offence', (text: string) => this.found.push(text));
    await context.addInitScript(
      `addEventListener('securitypolicyviolation', (event) =>
         offence(location.pathname + ': ' + event.violatedDirective + ' ' + event.blockedURI));`,
    );
    context.on('weberror', (error) => this.found.push(error.error().message));
    context.on('request', (request) => {
      const url = request.url();
      if (!url.startsWith(origin) && !url.startsWith('data:')) this.found.push(`asked for ${url}`);
    });
  }
}

export async function signIn(page: Page, url: string): Promise<void> {
  await page.goto(url);
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('navigation', { name: 'pages' }).waitFor();
}

interface AxeResult {
  violations: { id: string; nodes: { html: string; failureSummary: string }[] }[];
}

/** Fails on whatever axe-core finds in the page as it is. */
export async function expectAccessible(page: Page, what: string): Promise<void> {
  if (!(await page.evaluate<boolean>('"axe" in globalThis'))) await page.evaluate(axe.source);
  const { violations } = await page.evaluate<AxeResult>('axe.run(document, { resultTypes: ["violations"] })');
  const told = violations.flatMap(({ id, nodes }) =>
    nodes.slice(0, 3).map(({ html, failureSummary }) => `${what}: ${id}: ${html}\n${failureSummary}`),
  );
  expect(told, what).toEqual([]);
}

/** How far the page is wider than the window. */
export const overflow = (page: Page): Promise<number> =>
  page.evaluate<number>('document.documentElement.scrollWidth - innerWidth');
