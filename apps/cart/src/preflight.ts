import { createServer } from 'node:net';
import { Client } from 'pg';
import { ConfigError, describeDatabase } from './config.js';
import { errorCode } from './database/embedded/error-code.js';

/**
 * Looks whether the database answers, so that a wrong address is one line instead of the framework's stack traces.
 *
 * @throws ConfigError
 */
export async function ensureReachable(databaseUrl: string): Promise<void> {
  const client = new Client({ connectionString: databaseUrl, connectionTimeoutMillis: 5_000 });
  // A connection that breaks while it is closed has answered all the same.
  client.on('error', () => undefined);
  try {
    await client.connect();
  } catch (error) {
    throw new ConfigError(
      `DATABASE_URL: no connection to ${describeDatabase(databaseUrl)} (${reason(error)}). ` +
        'Start that server or correct the URL, or unset it to start an embedded PostgreSQL.',
    );
  } finally {
    await client.end().catch(() => undefined);
  }
}

/**
 * Looks whether the port can be listened on.
 *
 * @throws ConfigError
 */
export async function ensurePortFree(port: number, host: string): Promise<void> {
  const probe = createServer();
  const failure = await new Promise<Error | undefined>((resolve) => {
    probe.once('error', resolve);
    probe.listen({ port, host }, () => probe.close(() => resolve(undefined)));
  });
  if (failure) throw listenFailure(failure, port, host);
}

/** What to tell about an address that cannot be listened on. */
export function listenFailure(error: unknown, port: number, host: string): unknown {
  const code = errorCode(error);
  if (code === 'EADDRINUSE') {
    return new ConfigError(
      `PORT is ${port}: that port of ${host} is taken. ` +
        'Stop what listens there, or choose another: PORT=3100 npm start',
    );
  }
  if (code === 'EACCES') {
    return new ConfigError(
      `PORT is ${port}: this user may not listen there. Choose one above 1023: PORT=3000 npm start`,
    );
  }
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') {
    return new ConfigError(`HOST is ${JSON.stringify(host)}: this machine has no such address.`);
  }
  return error;
}

function reason(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reason).join('; ');
  return error instanceof Error && error.message !== '' ? error.message : String(error);
}
