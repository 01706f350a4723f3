import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, renameSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { createServer, Socket } from 'node:net';
import { cleanEnvironment, failureOf, runAs } from './account.js';
import type { Binaries } from './binaries.js';
import type { Place } from './places.js';
import { poll, signal } from './processes.js';
import { readPostmaster } from './postmaster.js';

const LOG_LIMIT_BYTES = 10 * 1024 * 1024;

/** How a server ended. */
export interface ServerExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The last lines of its log. */
  readonly log: string;
}

/** A server that accepts connections. */
export interface Server {
  readonly pid: number;
  readonly exited: Promise<ServerExit>;
  stop(mode: 'fast' | 'immediate'): Promise<void>;
}

/** The server ended before it accepted connections. */
export class ServerStartError extends Error {
  override readonly name = 'ServerStartError';
}

/** Starts a server in an existing cluster and waits until it accepts connections. */
export async function startServer(
  binaries: Binaries,
  place: Place,
  settings: Readonly<Record<string, string>>,
  logFile: string,
  timeoutMs: number,
): Promise<Server> {
  if ((statSync(logFile, { throwIfNoEntry: false })?.size ?? 0) > LOG_LIMIT_BYTES) {
    renameSync(logFile, `${logFile}.1`);
  }
  const log = openSync(logFile, 'a', 0o600);
  const logStart = statSync(logFile).size;
  const child = spawn(
    binaries.postgres,
    ['-D', place.cluster, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    {
      ...runAs(place.account),
      cwd: place.cluster,
      env: cleanEnvironment(),
      // A session of its own: Ctrl-C in the terminal must not reach the database before the app has drained.
      detached: true,
      stdio: ['ignore', log, log],
      windowsHide: true,
    },
  );
  closeSync(log);
  const exited = new Promise<ServerExit>((resolve) => {
    const done = (code: number | null, name: NodeJS.Signals | null): void => {
      void tail(logFile, logStart).then((text) => resolve({ code, signal: name, log: text }));
    };
    child.once('exit', done).once('error', () => done(null, null));
  });

  const state = await poll(async () => {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return 'ended';
    const postmaster = await readPostmaster(place.cluster);
    return postmaster?.pid === child.pid && postmaster.ready ? 'ready' : undefined;
  }, timeoutMs);
  if (state !== 'ready' || child.pid === undefined) {
    child.kill('SIGQUIT');
    const { log: text } = await exited;
    throw new ServerStartError(
      (state === 'ended' ? 'PostgreSQL did not start' : `PostgreSQL was not ready after ${timeoutMs} ms`) +
        `; the end of ${logFile}:\n${text}`,
    );
  }
  child.unref();
  const watchdog = startWatchdog(child.pid, place);
  child.once('exit', () => watchdog?.kill('SIGKILL'));
  return { pid: child.pid, exited, stop: (mode) => stop(child, exited, mode, binaries, place) };
}

/**
 * Stops the server when this process ends without having done so, kill -9 included: the pipe to the watchdog closes
 * then, whatever happened.
 */
function startWatchdog(pid: number, place: Place): ChildProcess | undefined {
  if (process.platform === 'win32') return undefined;
  const watchdog = spawn('/bin/sh', ['-c', 'read -r _; kill -INT "$0"', String(pid)], {
    ...runAs(place.account),
    cwd: '/',
    env: cleanEnvironment(),
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  // Without a watchdog the next start still deals with what is left over.
  watchdog.once('error', () => undefined);
  watchdog.stdin.on('error', () => undefined);
  // A pipe is a socket, which the type does not tell; it must not keep this process alive.
  if (watchdog.stdin instanceof Socket) watchdog.stdin.unref();
  watchdog.unref();
  return watchdog;
}

async function stop(
  child: ChildProcess,
  exited: Promise<ServerExit>,
  mode: 'fast' | 'immediate',
  binaries: Binaries,
  place: Place,
): Promise<void> {
  child.ref();
  const ended = async (): Promise<true | undefined> =>
    child.exitCode !== null || child.signalCode !== null ? true : undefined;
  const ask = (name: 'SIGINT' | 'SIGQUIT'): void => {
    if (process.platform !== 'win32') signal(child.pid ?? 0, name);
    else {
      // Signals of Node end a process there without letting it clean up.
      const how = name === 'SIGINT' ? 'fast' : 'immediate';
      failureOf(binaries.pgCtl, ['stop', '-D', place.cluster, '-m', how], undefined);
    }
  };
  if ((await ended()) === undefined) ask(mode === 'fast' ? 'SIGINT' : 'SIGQUIT');
  if ((await poll(ended, 15_000)) === undefined) ask('SIGQUIT');
  if ((await poll(ended, 10_000)) === undefined) {
    throw new Error(`PostgreSQL (process ${child.pid}) does not stop.`);
  }
  await exited;
}

/** A TCP port of the loopback address that is free at this moment. */
export async function freePort(): Promise<number> {
  const probe = createServer();
  return new Promise((resolve, reject) => {
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => {
        if (address !== null && typeof address === 'object') resolve(address.port);
        else reject(new Error('The system gave no port.'));
      });
    });
  });
}

/** The last lines written since `start`. */
async function tail(file: string, start: number): Promise<string> {
  try {
    const handle = await open(file);
    try {
      const { size } = await handle.stat();
      const from = Math.max(start, size - 8_192);
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(Math.max(0, size - from)), 0, null, from);
      return buffer.toString('utf8', 0, bytesRead).trimEnd().split('\n').slice(-15).join('\n');
    } finally {
      await handle.close();
    }
  } catch {
    return '(the log cannot be read)';
  }
}
