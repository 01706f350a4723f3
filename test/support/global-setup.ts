import { execFileSync } from 'node:child_process';
import { rmSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { startEmbeddedPostgres } from '../../apps/cart/src/database/embedded-postgres.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** Superuser URL of the test server's `postgres` database. */
    postgresUrl: string;
  }
}

/**
 * One real PostgreSQL for all end-to-end tests, in a directory that goes with it; each test file makes databases of
 * its own. The library and the cart are compiled too: the tests that kill processes run what `npm run build` makes.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  for (const config of ['libs/idempotency/tsconfig.lib.json', 'apps/cart/tsconfig.app.json']) {
    execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', config], { stdio: 'inherit' });
  }
  const dataDir = mkdtempSync(join(tmpdir(), 'idempotency-test-'));
  const server = await startEmbeddedPostgres({
    dataDir,
    // fsync off: tests kill application processes and backends, not the machine; it makes them three times as fast.
    settings: { max_connections: 400, fsync: 'off', shared_buffers: '256MB' },
  });
  project.provide('postgresUrl', server.url);
  return async () => {
    await server.stop('immediate');
    rmSync(dataDir, { recursive: true, force: true });
  };
}
