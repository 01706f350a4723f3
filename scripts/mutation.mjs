// `npm run mutation`: starts a PostgreSQL for the tests that judge the mutants, then Stryker with the arguments given.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from './build.mjs';

build(['libs/idempotency/tsconfig.lib.json', 'apps/cart/tsconfig.app.json']);
const { startEmbeddedPostgres } = await import('../dist/apps/cart/database/embedded-postgres.js');

const dataDir = mkdtempSync(join(tmpdir(), 'idempotency-mutation-'));
const server = await startEmbeddedPostgres({
  dataDir,
  settings: { max_connections: 400, fsync: 'off', shared_buffers: '256MB' },
});
const stryker = spawn('npx', ['stryker', 'run', ...process.argv.slice(2)], {
  stdio: 'inherit',
  env: { ...process.env, TEST_POSTGRES_URL: server.url },
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => stryker.kill(signal));
process.exitCode = await new Promise((resolve) => stryker.on('close', (code) => resolve(code ?? 1)));
await server.stop('immediate');
rmSync(dataDir, { recursive: true, force: true });
