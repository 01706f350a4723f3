import { describe } from 'vitest';
import { missingServers, type ServerName } from '../../deploy/local/processes.js';

export * from '../../deploy/local/processes.js';

/**
 * `describe` for tests that need servers. Where one is not installed the suite is left out, which is said by name here and
 * again at the end of the run; with `CI=true` that is a failure.
 */
export function describeWith(needs: readonly ServerName[], title: string, body: () => void): void {
  const missing = missingServers(needs);
  if (missing && process.env['CI'] === 'true') {
    throw new Error(`"${title}" needs ${missing.names.join(', ')}: ${missing.fix}`);
  }
  if (missing)
    console.warn(`LEFT OUT, without ${missing.names.join(', ')} (${missing.fix}): all of "${title}"`);
  describe.skipIf(missing !== undefined)(title, body);
}
