import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import {
  type Account,
  cleanEnvironment,
  failureOf,
  isRoot,
  runAs,
  unprivilegedAccount,
} from '../../apps/cart/src/database/embedded/account.js';
import { freePorts, POSTGRES_15_BIN, type ServerProcess, startServer } from './servers.js';
import { startRelay, type TcpRelay } from './tcp-relay.js';
import { until } from './until.js';

/** When the primary answers a COMMIT: when the standby has it too, or without asking. */
export type Replication = 'synchronous' | 'asynchronous';

/** One of the two servers. */
export interface PostgresNode {
  readonly port: number;
  /** Asks it directly, beside the application's address, on a connection of its own. */
  rows<Row extends pg.QueryResultRow = pg.QueryResultRow>(text: string, values?: unknown[]): Promise<Row[]>;
}

/** A primary and the standby that streams from it, with one address for the application. */
export interface PostgresPair {
  /** The application's address. It is moved by {@link PostgresPair.moveAddress} only. */
  readonly url: string;
  readonly address: TcpRelay;
  readonly primary: PostgresNode;
  readonly standby: PostgresNode;
  /** The line that the write-ahead log goes over: `to-client` is the log, `to-target` what the standby acknowledges. */
  readonly replication: TcpRelay;
  /** SIGKILL to all of its processes: the machine is gone, and its folder too, so that it never serves again. */
  killPrimary(): Promise<void>;
  /** The standby takes over. */
  promote(): Promise<void>;
  /** The application's address leads to the standby, or after a promotion to the new primary. */
  moveAddress(): void;
  /** Kills, promotes, moves the address. Answers how long that took, in ms. */
  failOver(): Promise<number>;
  /** A new standby from a copy of the primary; synchronous where the pair is. */
  rebuildStandby(): Promise<void>;
  close(): Promise<void>;
}

interface Node extends PostgresNode {
  readonly folder: string;
  readonly server: ServerProcess;
}

const DATABASE = 'carts';
const PROMOTED_WITHIN_S = 20;
/** Whoever waits for a server says so, long before its test is out of time. */
const PATIENCE = { connectionTimeoutMillis: 10_000, query_timeout: 30_000 };
const SETTINGS = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  // Processes are killed, the machine is not: what they have written is read by whoever comes next.
  fsync: 'off',
  wal_keep_size: '256MB',
  max_connections: '100',
};

export async function startPair(replication: Replication): Promise<PostgresPair> {
  const root = mkdtempSync(join(tmpdir(), 'idempotency-pair-'));
  const account = isRoot() ? unprivilegedAccount(join(root, 'none')) : undefined;
  chmodSync(root, 0o711);
  let made = 0;
  const makeFolder = (): string => {
    const folder = join(root, String(++made));
    mkdirSync(folder, { mode: 0o700 });
    if (account) chownSync(folder, account.uid, account.gid);
    return folder;
  };

  const first = makeFolder();
  run(account, 'initdb', ['-D', first, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '-N']);
  let primary = await startNode(account, first);
  let standby: Node | undefined;
  let line: TcpRelay | undefined;
  let address: TcpRelay | undefined;

  const here = <T>(value: T | undefined, what: string): T => {
    if (value === undefined) throw new Error(`there is no ${what}`);
    return value;
  };
  const pair: PostgresPair = {
    get url() {
      return `postgres://postgres@127.0.0.1:${here(address, 'address').port}/${DATABASE}`;
    },
    get address() {
      return here(address, 'address');
    },
    get primary() {
      return primary;
    },
    get standby() {
      return here(standby, 'standby');
    },
    get replication() {
      return here(line, 'line between the servers');
    },
    killPrimary: async () => {
      await killAll(primary.server);
      rmSync(primary.folder, { recursive: true, force: true });
      // What the line still held is lost with the machine.
      line?.cut();
      pair.address.cut();
    },
    promote: async () => {
      const node = here(standby, 'standby');
      const [row] = await node.rows<{ done: boolean }>(
        `SELECT pg_promote(true, ${PROMOTED_WITHIN_S}) AS done`,
      );
      if (row?.done !== true) {
        throw new Error(
          `no primary within ${PROMOTED_WITHIN_S} s of its promotion:\n${node.server.output()}`,
        );
      }
      primary = node;
      standby = undefined;
    },
    moveAddress: () => {
      pair.address.retarget((standby ?? primary).port);
      pair.address.cut();
    },
    failOver: async () => {
      const began = performance.now();
      await pair.killPrimary();
      await pair.promote();
      pair.moveAddress();
      return performance.now() - began;
    },
    rebuildStandby: async () => {
      if (standby) await killAll(standby.server);
      const folder = makeFolder();
      run(account, 'pg_basebackup', ['-h', '127.0.0.1', '-p', String(primary.port), '-U', 'postgres', '-D', folder, '-c', 'fast', '-X', 'stream', '--no-sync']); // prettier-ignore
      await line?.close();
      line = await startRelay(primary.port);
      // Not the primary's own: it would wait for a standby as soon as it is promoted.
      writeFileSync(join(folder, 'postgresql.auto.conf'), '');
      writeFileSync(join(folder, 'standby.signal'), '');
      const source = `host=127.0.0.1 port=${line.port} user=postgres application_name=standby`;
      standby = await startNode(account, folder, { primary_conninfo: source });
      if (replication === 'synchronous') {
        await primary.rows(`ALTER SYSTEM SET synchronous_standby_names = 'standby'`);
        await primary.rows('SELECT pg_reload_conf()');
      }
      await until('the standby streams', async () => {
        const [row] = await primary.rows<{ sync: string }>(
          `SELECT sync_state AS sync FROM pg_stat_replication WHERE state = 'streaming'`,
        );
        return row?.sync === (replication === 'synchronous' ? 'sync' : 'async');
      });
    },
    close: async () => {
      for (const node of [primary, standby]) if (node) await killAll(node.server);
      await line?.close();
      await address?.close();
      rmSync(root, { recursive: true, force: true });
    },
  };
  try {
    await primary.rows(`CREATE DATABASE ${DATABASE}`, [], 'postgres');
    address = await startRelay(primary.port);
    await pair.rebuildStandby();
    return pair;
  } catch (error) {
    await pair.close();
    throw error;
  }
}

async function startNode(
  account: Account | undefined,
  folder: string,
  settings: Record<string, string> = {},
): Promise<
  Node & { rows(text: string, values?: unknown[], database?: string): Promise<pg.QueryResultRow[]> }
> {
  const [port] = (await freePorts(1)) as [number];
  const all = { ...SETTINGS, ...settings, port: String(port) };
  const server = startServer(
    join(POSTGRES_15_BIN, 'postgres'),
    ['-D', folder, ...Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    { ...runAs(account), cwd: folder, env: cleanEnvironment() },
  );
  const rows = async <Row extends pg.QueryResultRow>(
    text: string,
    values: unknown[] = [],
    database = DATABASE,
  ): Promise<Row[]> => {
    const client = new pg.Client({ host: '127.0.0.1', port, user: 'postgres', database, ...PATIENCE });
    client.on('error', () => undefined);
    try {
      await client.connect();
      return (await client.query<Row>(text, values)).rows;
    } finally {
      await client.end();
    }
  };
  await until(
    'PostgreSQL accepts connections',
    async () => {
      if (!server.isRunning()) throw new Error(`it ended:\n${server.output()}`);
      return rows('SELECT 1', [], 'postgres').then(
        () => true,
        () => false,
      );
    },
    30_000,
  );
  return { port, folder, server, rows };
}

/** The postmaster first stands still, so that it starts nothing between the look and the end. */
async function killAll(server: ServerProcess): Promise<void> {
  if (!server.isRunning()) return;
  server.signal('SIGSTOP');
  const children = childrenOf(server.pid);
  await server.end('SIGKILL');
  for (const pid of children) signal(pid, 'SIGKILL');
  await until('its processes are gone', () => children.every((pid) => !signal(pid, 0)));
}

function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/status`, 'utf8').includes(`\nPPid:\t${parent}\n`);
      } catch {
        return false;
      }
    });
}

/** Whether there was such a process that is more than an entry nobody has asked for yet. */
function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, name);
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

function run(account: Account | undefined, program: string, args: readonly string[]): void {
  const failure = failureOf(join(POSTGRES_15_BIN, program), args, account);
  if (failure !== undefined) throw new Error(`${program}: ${failure}`);
}
