import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { LOOPBACK, runLocally, type LocalServer, type LocalServerOptions } from './local-server.js';
import { render } from './render.js';

export interface PgBouncerServer extends LocalServer {
  /** The address of a database of the server behind it; of the one in `serverUrl` by default. */
  url(database?: string): string;
  /** Rows of its own console, as `SHOW POOLS`. */
  show(what: string): Promise<Record<string, unknown>[]>;
}

export interface PgBouncerOptions extends LocalServerOptions {
  /** The PostgreSQL behind it. The user and the password in it are those of every client. */
  readonly serverUrl: string;
  /** Connections to PostgreSQL for each database. @default 20 */
  readonly poolSize?: number;
  /** Further lines of the configuration, as `{ server_idle_timeout: 1 }`; they override it. */
  readonly settings?: Readonly<Record<string, string | number>>;
}

/** A PgBouncer with the configuration of `deploy/pgbouncer.ini.template`: transaction pooling. */
export async function startPgBouncer({
  serverUrl,
  poolSize = 20,
  settings = {},
  ...options
}: PgBouncerOptions): Promise<PgBouncerServer> {
  const behind = new URL(serverUrl);
  const user = decodeURIComponent(behind.username);
  const password = decodeURIComponent(behind.password);
  const through = (port: number, database: string): string => {
    const url = new URL(serverUrl);
    url.host = `${LOOPBACK}:${port}`;
    url.pathname = `/${database}`;
    return url.href;
  };
  const database = behind.pathname.slice(1);
  const account = process.getuid?.() === 0 ? 'nobody' : undefined;
  const server = await runLocally({
    ...options,
    program: 'pgbouncer',
    prepare: ({ folder, ports: [port] }) => {
      const ini = join(folder, 'pgbouncer.ini');
      const users = join(folder, 'userlist.txt');
      const further = Object.entries(settings).map(([name, value]) => `${name} = ${value}\n`);
      writeFileSync(
        ini,
        render('pgbouncer.ini.template', {
          POSTGRES_HOST: behind.hostname,
          POSTGRES_PORT: behind.port === '' ? 5432 : behind.port,
          POSTGRES_USER: user,
          PGBOUNCER_HOST: LOOPBACK,
          PGBOUNCER_PORT: port as number,
          PGBOUNCER_DIR: folder,
          PGBOUNCER_POOL_SIZE: poolSize,
        }) + further.join(''),
      );
      writeFileSync(users, `${quoted(user)} ${quoted(password)}\n`, { mode: 0o600 });
      if (account === undefined) return [ini];
      // It refuses to run as root, and reads its files as whom it becomes.
      for (const path of [folder, ini, users]) {
        chownSync(path, idOf(account, '-u'), idOf(account, '-g'));
        chmodSync(path, path === folder ? 0o700 : 0o600);
      }
      return ['-u', account, ini];
    },
    isReady: async (port) => {
      const rows = await ask(through(port, database), 'SELECT 1').catch(() => []);
      return rows.length === 1;
    },
  });
  return {
    ...server,
    url: (name = database) => through(server.port, name),
    show: (what) => ask(through(server.port, 'pgbouncer'), what),
  };
}

/** As PgBouncer reads a name or a password: a quote is doubled. */
const quoted = (text: string): string => `"${text.replaceAll('"', '""')}"`;

const idOf = (account: string, flag: '-u' | '-g'): number =>
  Number(execFileSync('id', [flag, account], { encoding: 'utf8' }));

async function ask(url: string, statement: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  client.on('error', () => undefined);
  try {
    await client.connect();
    return (await client.query<Record<string, unknown>>(statement)).rows;
  } finally {
    await client.end();
  }
}
