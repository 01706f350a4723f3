import { execFileSync, spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { delimiter, join } from 'node:path';

/** Servers that run beside PostgreSQL, and what tests compile, by the Debian package that brings each. */
const PACKAGES = {
  'redis-server': 'redis-server',
  'redis-sentinel': 'redis-sentinel',
  memcached: 'memcached',
  nginx: 'nginx-light',
  pgbouncer: 'pgbouncer',
  'postgresql-15': 'postgresql-15',
  gcc: 'gcc libc6-dev',
  spin: 'spin',
  'libmemcached-dev': 'libmemcached-dev',
} as const;

export type ServerName = keyof typeof PACKAGES;

/** Where Debian puts what is not on everybody's PATH. */
const FOLDERS = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin'];

/** Where PostgreSQL 15's own programs are: initdb, pg_ctl, pg_basebackup. */
export const POSTGRES_15_BIN = '/usr/lib/postgresql/15/bin';

/** The program's path, or `undefined` where it is not installed. */
export function findServer(name: ServerName): string | undefined {
  if (name === 'postgresql-15') return executable(join(POSTGRES_15_BIN, 'pg_ctl'));
  if (name === 'libmemcached-dev') return accessible('/usr/include/libmemcached/memcached.h', constants.R_OK);
  for (const folder of FOLDERS) {
    const path = executable(join(folder, name));
    if (path !== undefined) return path;
  }
  return undefined;
}

/** @throws when it is not installed, saying how to get it. */
export function serverPath(name: ServerName): string {
  const path = findServer(name);
  if (path === undefined) throw new Error(`${name} is not installed: apt-get install ${PACKAGES[name]}`);
  return path;
}

/** What is not installed here, with the command that brings it. */
export function missingServers(
  names: readonly ServerName[] = Object.keys(PACKAGES) as ServerName[],
): { readonly names: readonly ServerName[]; readonly fix: string } | undefined {
  const missing = names.filter((name) => findServer(name) === undefined);
  if (missing.length === 0) return undefined;
  return { names: missing, fix: `apt-get install ${missing.map((name) => PACKAGES[name]).join(' ')}` };
}

/** A server of this process's own, in the foreground of its parent. */
export interface ServerProcess {
  readonly process: ChildProcess;
  readonly pid: number;
  /** Everything it has printed so far. */
  output(): string;
  isRunning(): boolean;
  signal(signal: NodeJS.Signals): void;
  /** Sends a signal, a stopped process included, and waits for the end. */
  end(signal?: NodeJS.Signals): Promise<void>;
}

const running = new Set<ChildProcess>();
// A run that is cut short leaves none of them behind.
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/**
 * Starts a program that stays in the foreground. With `detached` a Ctrl-C at the terminal does not reach it. Whether it is ready is for the
 * caller to ask it.
 */
export function startServer(
  path: string,
  args: readonly string[],
  options: Pick<SpawnOptions, 'cwd' | 'detached' | 'env' | 'uid' | 'gid'> = {},
): ServerProcess {
  const child = spawn(path, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  running.add(child);
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const exited = once(child, 'exit').finally(() => running.delete(child));
  exited.catch((error: unknown) => (output += String(error)));
  const isRunning = (): boolean => child.exitCode === null && child.signalCode === null;
  return {
    process: child,
    pid: child.pid as number,
    output: () => output,
    isRunning,
    signal: (signal) => void child.kill(signal),
    end: async (signal = 'SIGKILL') => {
      if (!isRunning()) return;
      child.kill(signal);
      if (signal !== 'SIGKILL') child.kill('SIGCONT');
      await exited;
    },
  };
}

/** From here up to {@link PORTS_END} no usual system takes the port of a connection that leaves it, nor one for `listen(0)`. */
const PORTS_BEGIN = 10_000;
/** Linux begins here by default (`net.ipv4.ip_local_port_range`), others later. */
const PORTS_END = 32_768;

/**
 * Ports that nobody listens on at this moment, all different, for servers that are told their port, or come back to it: nobody gets one
 * by chance in between.
 */
export async function freePorts(count: number): Promise<number[]> {
  const servers: Server[] = [];
  while (servers.length < count) {
    const server = createServer();
    const listening = once(server, 'listening');
    server.listen(randomInt(PORTS_BEGIN, PORTS_END), '127.0.0.1');
    try {
      await listening;
      servers.push(server);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    }
  }
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** The first line of what `program --version` prints. */
export function versionOf(name: ServerName): string {
  const flag = name === 'nginx' ? '-v' : '--version';
  return (
    execFileSync('sh', ['-c', '"$0" "$1" 2>&1', serverPath(name), flag], { encoding: 'utf8' }).split(
      '\n',
    )[0] ?? ''
  );
}

function executable(path: string): string | undefined {
  return accessible(path, constants.X_OK);
}

function accessible(path: string, mode: number): string | undefined {
  try {
    accessSync(path, mode);
    return path;
  } catch {
    return undefined;
  }
}
