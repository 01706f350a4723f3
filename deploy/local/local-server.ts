import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePorts, serverPath, startServer, type ServerName, type ServerProcess } from './processes.js';
import { until } from './until.js';

/** A server on 127.0.0.1, in a folder that goes with it. */
export interface LocalServer {
  readonly port: number;
  readonly host: string;
  /** Where its configuration and its files are. */
  readonly folder: string;
  pid(): number;
  /** Everything that the running process has printed so far. */
  output(): string;
  isRunning(): boolean;
  signal(signal: NodeJS.Signals): void;
  /** Freezes it: it accepts connections and answers nothing. Resolves when none of its threads runs any more. */
  pause(): Promise<void>;
  resume(): void;
  /** Kills it, frozen or not. Its port and its folder are kept for {@link restart}. */
  kill(): Promise<void>;
  /** Starts it again on its port, when it was killed, and waits until it answers. */
  restart(): Promise<void>;
  /** Ends it, frozen or not, and removes its folder. */
  stop(): Promise<void>;
}

export interface LocalServerOptions {
  /** Port to listen on; a free one by default. */
  readonly port?: number;
  /** A Ctrl-C at the terminal does not reach it. */
  readonly detached?: boolean;
}

interface Recipe extends LocalServerOptions {
  readonly program: ServerName;
  /** How many ports it needs; its own is the first. */
  readonly ports?: number;
  /** Writes what it needs into its folder, and gives its arguments. */
  prepare(place: { readonly folder: string; readonly ports: readonly number[] }): readonly string[];
  /** Whether it answers as it will answer its clients. */
  isReady(port: number): Promise<boolean>;
}

export const LOOPBACK = '127.0.0.1';
const START_TIMEOUT_MS = 20_000;

/** Runs a server by its recipe. Somebody else may take a free port before it does: then it gets another one. */
export async function runLocally(recipe: Recipe): Promise<LocalServer> {
  const path = serverPath(recipe.program);
  for (let attempt = 1; ; attempt++) {
    const ports = await freePorts(recipe.ports ?? 1);
    if (recipe.port !== undefined) ports[0] = recipe.port;
    const folder = mkdtempSync(join(tmpdir(), `${recipe.program}-`));
    try {
      return await startIn(folder, ports, path, recipe);
    } catch (error) {
      rmSync(folder, { recursive: true, force: true });
      if (recipe.port !== undefined || attempt === 5 || !/address already in use/i.test(String(error))) {
        throw error;
      }
    }
  }
}

async function startIn(folder: string, ports: number[], path: string, recipe: Recipe): Promise<LocalServer> {
  const port = ports[0] as number;
  const args = recipe.prepare({ folder, ports });
  const start = async (): Promise<ServerProcess> => {
    const started = startServer(path, args, { cwd: folder, detached: recipe.detached ?? false });
    try {
      await until(
        `${recipe.program} answers on port ${port}`,
        async () => {
          if (!started.isRunning()) throw new Error(`${recipe.program} ended:\n${started.output()}`);
          return recipe.isReady(port);
        },
        START_TIMEOUT_MS,
      );
    } catch (error) {
      await started.end();
      throw new Error(`${(error as Error).message}\n${started.output()}`, { cause: error });
    }
    return started;
  };
  let server = await start();
  return {
    port,
    host: LOOPBACK,
    folder,
    pid: () => server.pid,
    output: () => server.output(),
    isRunning: () => server.isRunning(),
    signal: (signal) => server.signal(signal),
    pause: async () => {
      server.signal('SIGSTOP');
      await until(`${recipe.program} is frozen`, () => isFrozen(server.pid));
    },
    resume: () => server.signal('SIGCONT'),
    kill: () => server.end('SIGKILL'),
    restart: async () => {
      if (server.isRunning()) throw new Error(`${recipe.program} on port ${port} still runs`);
      server = await start();
    },
    stop: async () => {
      await server.end('SIGTERM');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Whether every thread has taken the signal: that of Linux is sent to the process, and reaches them one by one. */
function isFrozen(pid: number): boolean {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).every((thread) => {
    const stat = readFileSync(join(tasks, thread, 'stat'), 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).startsWith('T');
  });
}

/** Sends a line to a server of a text protocol, and resolves with the beginning of its answer; `''` when there is none. */
export function askLine(port: number, line: string, timeoutMs = 1_000): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, LOOPBACK, () => void socket.write(`${line}\r\n`));
    const settle = (answer: string): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(timeoutMs, () => settle(''));
    socket.once('data', (chunk: Buffer) => settle(chunk.toString('latin1')));
    socket.once('error', () => settle(''));
    socket.once('close', () => resolve(''));
  });
}
