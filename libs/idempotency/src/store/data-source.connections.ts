import type { Client, Pool, PoolClient } from 'pg';
import type { DataSource } from 'typeorm';
import { IdempotencyConfigurationError } from '../errors/configuration.error.js';
import { PreparedStatements } from './prepared-statements.js';
import type { ConnectionSource } from './session.js';

/** The part of TypeORM's PostgresDriver that is used: its pools. */
interface PostgresDriverLike {
  readonly master: Pool;
  readonly slaves?: readonly Pool[];
  obtainMasterConnection(): Promise<[Client, (error?: Error) => void]>;
}

/** Connections of the primary, out of the pool that the data source's repositories use: records join its limits. */
export function connectionsOf(dataSource: DataSource): ConnectionSource {
  const { type } = dataSource.options;
  if (type !== 'postgres') {
    throw new IdempotencyConfigurationError({
      option: 'dataSource',
      received: type,
      fix: "Use a TypeORM data source of type 'postgres': the records live beside the handler's rows.",
    });
  }
  const driver = dataSource.driver as unknown as PostgresDriverLike;
  for (const pool of [driver.master, ...(driver.slaves ?? [])]) keepProcessAlive(pool);
  return {
    prepared: new PreparedStatements(),
    connect: async () => {
      const [client, release] = await driver.obtainMasterConnection();
      return { client, release };
    },
  };
}

/** The pool of the primary: a data source that was closed has none, and one that was opened again another one. */
export function poolOf(dataSource: DataSource): Pick<Pool, 'ending'> | undefined {
  return (dataSource.driver as unknown as Partial<PostgresDriverLike>).master;
}

const guarded = new WeakSet<Pool | PoolClient>();

/**
 * Gives every connection of the pool an `error` listener of its own, for good. The pool takes its listener off when it
 * hands a connection out, and TypeORM attaches one a few promises later; when a backend is terminated in between, the
 * error has no listener and ends the process. Nothing is hidden: a broken connection fails its next statement.
 */
function keepProcessAlive(pool: Pool): void {
  if (guarded.has(pool)) return;
  guarded.add(pool);
  pool.on('acquire', (client) => {
    if (guarded.has(client)) return;
    guarded.add(client);
    client.on('error', () => undefined);
  });
}

/** How many connections the pool has at most; node-postgres' own default is 10. */
export function poolSizeOf(dataSource: DataSource): number {
  const { poolSize, extra } = dataSource.options as { poolSize?: number; extra?: { max?: number } };
  return extra?.max ?? poolSize ?? 10;
}
