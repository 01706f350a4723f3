import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { until } from './until.js';

const MAIN = fileURLToPath(new URL('../../dist/apps/payment-provider/main.js', import.meta.url));

/** The payment provider in a process of its own. */
export interface ProviderProcess {
  /** The address it says that it listens on; fails when it ends instead. */
  url(): Promise<string>;
  /** Everything it has printed so far. */
  output(): string;
  /** Sends a signal. */
  kill(signal: NodeJS.Signals): void;
  /** How it ended, with all its output read. */
  exit(): Promise<number | NodeJS.Signals>;
}

export function startProvider(env: Record<string, string> = {}): ProviderProcess {
  const child: ChildProcess = spawn(process.execPath, [MAIN], {
    env: {
      ...process.env,
      PROVIDER_PORT: '0',
      PROVIDER_HOST: '127.0.0.1',
      PROVIDER_LEDGER: '',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const exited = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  return {
    url: () =>
      until(
        'the payment provider listens',
        () => {
          const url = /listening on (http:\S+)\n/.exec(output)?.[1];
          if (url === undefined && child.exitCode !== null) throw new Error(`it ended:\n${output}`);
          return url;
        },
        30_000,
      ),
    output: () => output,
    kill: (signal) => void child.kill(signal),
    exit: async () => {
      const [code, signal] = await exited;
      return code ?? (signal as NodeJS.Signals);
    },
  };
}
