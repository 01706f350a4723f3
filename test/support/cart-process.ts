import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Failpoint } from 'nestjs-pg-idempotency/testing';
import { until } from './until.js';

const MAIN = fileURLToPath(new URL('../../dist/apps/cart/main.js', import.meta.url));
const STOP = fileURLToPath(new URL('./stop-at-failpoint.mjs', import.meta.url));

/** A failpoint, the first time it is reached, or as `phase-done#2` the second time. */
export type StopAt = Failpoint | `${Failpoint}#${number}`;

/** The cart API as `npm run start:prod` runs it, in a process of its own. */
export interface CartProcess {
  readonly url: string;
  readonly pid: number;
  /** Everything it has printed so far. */
  output(): string;
  /** Resolves when it has come to the failpoint it was started with. */
  reached(): Promise<void>;
  isRunning(): boolean;
  signal(signal: NodeJS.Signals): void;
  /** Sends a signal and waits for the end of the process; answers the code it exited with, `null` when the signal ended it. */
  end(signal?: NodeJS.Signals): Promise<number | null>;
}

export interface CartProcessOptions {
  readonly databaseUrl: string;
  readonly env?: Record<string, string>;
  /** Another version's `main.js`, as `unpackCart` gives it. @default that of this build */
  readonly main?: string | undefined;
  /** Where the process stops. */
  readonly stopAt?: StopAt | undefined;
  /**
   * What makes it go on: nothing, so that it can be killed there; a SIGCONT, after the process has frozen itself; or
   * the end of so many milliseconds in which its event loop is blocked. @default 'never'
   */
  readonly stopUntil?: 'never' | 'SIGCONT' | number;
}

export async function startCart({
  databaseUrl,
  env = {},
  main = MAIN,
  stopAt,
  stopUntil = 'never',
}: CartProcessOptions): Promise<CartProcess> {
  const args = stopAt === undefined ? [main] : ['--import', stopOf(main), main];
  const child: ChildProcess = spawn(process.execPath, args, {
    env: {
      ...process.env,
      NODE_ENV: 'test',
      DATABASE_URL: databaseUrl,
      PORT: '0',
      HOST: '127.0.0.1',
      ...(stopAt === undefined ? {} : { STOP_AT: stopAt, STOP_UNTIL: String(stopUntil) }),
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const exited = once(child, 'exit');
  const isRunning = (): boolean => child.exitCode === null && child.signalCode === null;
  const printed = (pattern: RegExp): RegExpExecArray | undefined => {
    if (!isRunning()) throw new Error(`the cart process ended:\n${output}`);
    return pattern.exec(output) ?? undefined;
  };
  const listening = await until('the cart listens', () => printed(/listening on (http:\S+)/), 30_000);
  return {
    url: listening[1] as string,
    pid: child.pid as number,
    output: () => output,
    reached: async () => void (await until(`failpoint ${stopAt}`, () => printed(/^reached /m))),
    isRunning,
    signal: (signal) => void child.kill(signal),
    end: async (signal = 'SIGTERM') => {
      if (isRunning()) child.kill(signal);
      await exited;
      return child.exitCode;
    },
  };
}

/** It arms the failpoints of the library that it finds from where it is: that of the version. */
function stopOf(main: string): string {
  return main === MAIN ? STOP : join(dirname(main), basename(STOP));
}

/** Sends requests to several instances in turn, as a load balancer does. */
export function roundRobin(instances: readonly { readonly url: string }[]): () => string {
  let next = 0;
  return () => (instances[next++ % instances.length] as { url: string }).url;
}
