import pg, { type PoolConfig } from 'pg';
import type { DataSource } from 'typeorm';
import { type PreparedDatabase, prepareDatabase } from '../../databases/prepare-database.js';
import { faultOfDataSource, isDataSource } from '../../databases/read-data-source.js';
import { IdempotencyConfigurationError } from '../../errors/configuration.error.js';
import type { MigrationMode } from '../../idempotency.options.js';
import { connectionsOf, poolSizeOf } from '../../store/data-source.connections.js';
import { PreparedStatements } from '../../store/prepared-statements.js';
import type { ConnectionSource } from '../../store/session.js';
import { ACQUIRE_TIMEOUT_MS } from './contract-stores.js';

/** A TypeORM data source of type `postgres`, or settings of node-postgres, as `{ connectionString }`. */
export type ContractDatabase = DataSource | PoolConfig;

/** An owner, two others, and whoever looks at the table from outside. */
const FEWEST_CONNECTIONS = 4;
const CONNECTIONS = 16;
const PREPARATION_TIMEOUT_MS = 30_000;

export interface Connections {
  readonly source: ConnectionSource;
  /** Closes what was opened for the case; not what was there before. */
  readonly close: () => Promise<void>;
}

/** @throws {IdempotencyConfigurationError} when it is no database that cases can run on. */
export function connectTo(database: ContractDatabase): Connections {
  return isDataSource(database) ? connectionsOfDataSource(database) : connectionsOfPool(database);
}

/** Looks at the server and makes the tables, as the module does when it starts. */
export async function prepare(
  database: ContractDatabase,
  { table, migrations }: { readonly table: string; readonly migrations: MigrationMode },
): Promise<PreparedDatabase> {
  const { source, close } = connectTo(database);
  const settings = { acquireTimeoutMs: ACQUIRE_TIMEOUT_MS, table, migrations, replayCache: undefined };
  const timeouts = { checkMs: PREPARATION_TIMEOUT_MS, migrateMs: PREPARATION_TIMEOUT_MS };
  try {
    return await prepareDatabase(source, settings, timeouts);
  } finally {
    await close();
  }
}

function connectionsOfDataSource(dataSource: DataSource): Connections {
  const fault = faultOfDataSource(dataSource);
  if (fault !== undefined) {
    throw new IdempotencyConfigurationError({
      option: 'database',
      received: fault,
      fix: "Use a DataSource of type 'postgres', and initialise it before the cases run.",
    });
  }
  assertEnough(poolSizeOf(dataSource));
  const connections = connectionsOf(dataSource);
  return {
    // Without prepared statements: an application on the same data source names its own.
    source: { connect: () => connections.connect() },
    close: async () => undefined,
  };
}

function connectionsOfPool(config: PoolConfig): Connections {
  const { max = CONNECTIONS } = config;
  assertEnough(max);
  const pool = new pg.Pool({ ...config, max });
  // Cases end connections: one that nobody listens to would end the process.
  pool.on('error', () => undefined);
  pool.on('connect', (client) => client.on('error', () => undefined));
  return {
    source: {
      prepared: new PreparedStatements(),
      connect: async () => {
        const client = await pool.connect();
        return { client: client as unknown as pg.Client, release: (error) => client.release(error) };
      },
    },
    close: () => pool.end(),
  };
}

function assertEnough(connections: number): void {
  if (connections >= FEWEST_CONNECTIONS) return;
  throw new IdempotencyConfigurationError({
    option: 'database',
    received: `a pool of ${connections}`,
    fix: `A case has up to ${FEWEST_CONNECTIONS} connections at a time: use a larger pool.`,
  });
}
