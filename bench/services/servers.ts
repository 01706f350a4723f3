import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { startEmbeddedPostgres } from '../../apps/cart/src/database/embedded-postgres.js';
import { findServer } from '../../deploy/local/processes.js';
import { startRedis } from '../../deploy/local/redis-server.js';
import { SCHEMA } from '../server/orders.js';

/** What the server under test is set to. Everything else is PostgreSQL's default; above all, `fsync` is on. */
export const POSTGRES_SETTINGS = {
  shared_buffers: '512MB',
  max_wal_size: '8GB',
  checkpoint_timeout: '30min',
  max_connections: 300,
} as const;

/** PostgreSQL and Redis, in folders that go with them. */
export interface Services {
  readonly databaseUrl: string;
  /** `undefined` where it is not installed. */
  readonly redisUrl: string | undefined;
  readonly postgresVersion: string;
  readonly postgresPid: number;
  stop(): Promise<void>;
}

export interface ServicesOptions {
  /** @default true */
  readonly redis?: boolean;
  /** Further settings of PostgreSQL. */
  readonly settings?: Readonly<Record<string, string>>;
}

export async function startServices({
  redis: withRedis = true,
  settings = {},
}: ServicesOptions = {}): Promise<Services> {
  const dataDir = mkdtempSync(join(tmpdir(), 'idempotency-bench-'));
  const postgres = await startEmbeddedPostgres({ dataDir, settings: { ...POSTGRES_SETTINGS, ...settings } });
  const redis = withRedis && findServer('redis-server') !== undefined ? await startRedis() : undefined;
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  await client.query(SCHEMA);
  const { rows } = await client.query<{ server_version: string }>('SHOW server_version');
  await client.end();
  return {
    databaseUrl: postgres.url,
    redisUrl: redis?.url,
    postgresPid: postgres.pid,
    postgresVersion: rows[0]?.server_version ?? '',
    stop: async () => {
      await redis?.stop();
      await postgres.stop('fast');
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}
