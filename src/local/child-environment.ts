/** Marks every process of a local stack with its folder, so that none can be lost. */
export const markerName = 'LH_LOCAL_DIR';

/**
 * The environment of a process of the local stack: ours, without settings that the person may have
 * made for other deployments, and with those given.
 */
export function childEnvironment(additions: Record<string, string>): NodeJS.ProcessEnv {
  // eslint-disable-next-line no-restricted-syntax -- passed on to children, not read as configuration
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('LONGHAUL_'));
  return { ...Object.fromEntries(inherited), ...additions };
}
