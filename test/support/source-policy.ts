import { loadConfig } from '../../src/platform/config.js';
import { sourcePolicy } from '../../src/text/source-policy.js';

/** As on the command line: documents come from wherever the person says. */
export const anywhere = sourcePolicy(loadConfig({ environment: {}, directory: '/' }));
