import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from '../../../apps/cart/src/database/embedded-postgres.js';
import { LEDGER_SCHEMA } from '../app/ledger.js';

/** The PostgreSQL of a run, which can crash and come back on its port. */
export interface Database {
  readonly port: number;
  readonly url: string;
  /** Asks on one of two connections that are the run's own; a question that is under way when the database crashes is not asked again. */
  rows<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  /** Ends it as a crash does; it recovers and answers again when this resolves. */
  crash(): Promise<void>;
  stop(): Promise<void>;
}

/** What the run itself asks is told apart from what the instances do. */
export const HARNESS = 'chaos';

const SETTINGS = {
  max_connections: 200,
  // Of the durations that a run breaks, none is the checkpoint's.
  max_wal_size: '4GB',
  // Tells at once, not within seconds, that a client is gone while its statement runs.
  client_connection_check_interval: '200ms',
  // Thousands of connections are opened: each costs milliseconds of processor time for no more than the password's 4,096 rounds.
  scram_iterations: 1,
} as const;

export async function startDatabase(): Promise<Database> {
  const dataDir = mkdtempSync(join(tmpdir(), 'idempotency-chaos-'));
  const start = (port?: number): Promise<EmbeddedPostgres> =>
    startEmbeddedPostgres({ dataDir, settings: SETTINGS, ...(port === undefined ? {} : { port }) });
  let server = await start();
  const { port, url } = server;
  const own = new pg.Pool({
    connectionString: url,
    max: 2,
    connectionTimeoutMillis: 5_000,
    application_name: HARNESS,
  });
  own.on('error', () => undefined);
  const rows = async <Row extends object>(text: string, values: readonly unknown[] = []): Promise<Row[]> =>
    (await own.query<Row>(text, [...values])).rows;
  await rows(`ALTER ROLE CURRENT_USER PASSWORD ${pg.escapeLiteral(new URL(url).password)}`);
  await rows(LEDGER_SCHEMA);
  return {
    port,
    url,
    rows,
    crash: async () => {
      await server.stop('immediate');
      server = await start(port);
    },
    stop: async () => {
      await own.end();
      await server.stop('fast');
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}
