import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { inject } from 'vitest';
import { until } from './until.js';

/** The name of the tests' own connections. */
const LOOKING = 'looking';

/** A database of a test file's own, and a connection beside the application's to look into it. */
export interface TestDatabase {
  /** What an application is given: the address of the pooler in front of the server, where there is one. */
  readonly url: string;
  /** The server itself. */
  readonly directUrl: string;
  readonly pool: pg.Pool;
  rows<Row extends pg.QueryResultRow = pg.QueryResultRow>(text: string, values?: unknown[]): Promise<Row[]>;
  /** Changes settings of the database, as `SET statement_timeout = '1s'`: connections have them that begin afterwards. */
  alter(...settings: string[]): Promise<void>;
  drop(): Promise<void>;
}

/** Whether the applications of this run come through PgBouncer: `npm run test:pgbouncer`. */
export const isPooled = (): boolean => inject('poolerUrl') !== undefined;

/** `poolerUrl` is where applications reach the server, unless they connect to it directly. */
export async function createDatabase(
  serverUrl = inject('postgresUrl'),
  poolerUrl = serverUrl === inject('postgresUrl') ? inject('poolerUrl') : undefined,
): Promise<TestDatabase> {
  const name = `test_${randomUUID().replaceAll('-', '')}`;
  await onServer(serverUrl, `CREATE DATABASE ${name}`);
  const directUrl = databaseOf(serverUrl, name);
  const pool = new pg.Pool({ connectionString: directUrl, max: 4, application_name: LOOKING });
  // Tests terminate connections, ours among them.
  pool.on('error', () => undefined);
  return {
    url: databaseOf(poolerUrl ?? serverUrl, name),
    directUrl,
    pool,
    rows: async <Row extends pg.QueryResultRow>(text: string, values?: unknown[]) =>
      (await pool.query<Row>(text, values)).rows,
    alter: async (...settings) => {
      for (const setting of settings) await pool.query(`ALTER DATABASE ${name} ${setting}`);
      // A connection that begins at the pooler goes on with one that the pooler has.
      if (poolerUrl !== undefined) await endPooled(pool);
    },
    drop: async () => {
      await pool.end();
      await onServer(serverUrl, `DROP DATABASE ${name} WITH (FORCE)`);
    },
  };
}

/** Ends the connections that a pooler has open to this database; it makes new ones. */
async function endPooled(pool: pg.Pool): Promise<void> {
  await until('the pooler has begun anew', async () => {
    const { rows } = await pool.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> $1`,
      [LOOKING],
    );
    return rows.length === 0;
  });
}

function databaseOf(serverUrl: string, name: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  return url.href;
}

async function onServer(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
