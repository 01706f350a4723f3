import { execFileSync } from 'node:child_process';
import { rmSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { startEmbeddedPostgres } from '../../apps/cart/src/database/embedded-postgres.js';
import { missingServers } from './servers.js';
import { startPgBouncer } from './topology.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** Superuser URL of the test server's `postgres` database. */
    postgresUrl: string;
    /** Its `server_version_num`, as 180004. */
    postgresVersion: number;
    /** The same through PgBouncer in transaction pooling, when the applications of this run connect there. */
    poolerUrl: string | undefined;
  }
}

/** What `npm run build:all` makes. */
const PROJECTS = [
  'libs/idempotency/tsconfig.lib.json',
  'apps/cart/tsconfig.app.json',
  'apps/payment-provider/tsconfig.app.json',
  'deploy/tsconfig.json',
  'bench/tsconfig.json',
];

/**
 * One real PostgreSQL for all end-to-end tests, in a directory that goes with it; each test file makes databases of
 * its own. `TEST_POSTGRES_URL` names another server to run them on, as its superuser. The library, the
 * cart, the payment provider and the benchmark are compiled too: tests that start processes run what `npm run build:all` makes.
 *
 * What is left out for want of a server is said by name when the run ends; with `CI=true` nothing may be left out.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const missing = missingServers();
  if (missing && process.env['CI'] === 'true') {
    throw new Error(`the tests need ${missing.names.join(', ')}: ${missing.fix}`);
  }
  const stopDatabase = await startDatabase(project);
  const stopPooler = await startPooler(project).catch(async (error: unknown) => {
    await stopDatabase();
    throw error;
  });
  return async () => {
    await stopPooler();
    await stopDatabase();
    if (missing) {
      console.warn(
        `\nLEFT OUT: every test that needs ${missing.names.join(', ')}. To run them: ${missing.fix}`,
      );
    }
  };
}

async function startDatabase(project: TestProject): Promise<() => Promise<void>> {
  execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '-b', ...PROJECTS], {
    stdio: 'inherit',
  });
  const url = process.env['TEST_POSTGRES_URL'];
  if (url !== undefined) {
    await provide(project, url);
    return async () => undefined;
  }
  const dataDir = mkdtempSync(join(tmpdir(), 'idempotency-test-'));
  const server = await startEmbeddedPostgres({
    dataDir,
    // fsync off: tests kill application processes and backends, not the machine; it makes them three times as fast.
    settings: { max_connections: 400, fsync: 'off', shared_buffers: '256MB' },
  });
  await provide(project, server.url);
  return async () => {
    await server.stop('immediate');
    rmSync(dataDir, { recursive: true, force: true });
  };
}

/** With `TEST_POOLER=pgbouncer` every application reaches the server through PgBouncer, and the tests' look-ups do not. */
async function startPooler(project: TestProject): Promise<() => Promise<void>> {
  const wanted = process.env['TEST_POOLER'] ?? '';
  if (wanted === '') {
    project.provide('poolerUrl', undefined);
    return async () => undefined;
  }
  if (wanted !== 'pgbouncer') throw new Error(`TEST_POOLER is ${wanted}: only pgbouncer is known`);
  const pooler = await startPgBouncer({ serverUrl: postgresUrl, poolSize: 40 });
  project.provide('poolerUrl', pooler.url());
  return pooler.stop;
}

let postgresUrl: string;

export async function provide(project: TestProject, url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const { rows } = await client.query<{ version: number }>(
    `SELECT current_setting('server_version_num')::int AS version`,
  );
  await client.end();
  postgresUrl = url;
  project.provide('postgresUrl', url);
  project.provide('postgresVersion', rows[0]?.version ?? 0);
}
