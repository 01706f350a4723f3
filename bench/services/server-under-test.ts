import { resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { ORDER } from '../load/load.js';
import type { Command, Usage } from '../server/commands.js';
import type { ServerSettings } from '../server/settings.js';
import { type Child, startChild } from './child.js';

/** A server of the benchmark, and how to bring it into the state a workload needs. */
export interface ServerUnderTest {
  readonly url: string;
  ask(command: Command): Promise<Usage>;
  /** Executes a request to `path` under each of `prefix`-0 to `prefix`-`count - 1`, or has it replayed. */
  know(path: string, prefix: string, count: number): Promise<void>;
  knowOne(path: string, key: string): Promise<void>;
  /** Holds a handler at its work under `key`, while `work` goes on. */
  holding<T>(key: string, work: () => Promise<T>): Promise<T>;
  stop(): Promise<void>;
}

/** Where each build has its server, below the folder of its checkout. */
const SERVER = 'dist/workspace/bench/server/main.js';
const SERVER_OF_PEERS = 'bench/peers/dist/peers/main.js';
/** The folder of this checkout, seen from this file and from what it is compiled to. */
const HERE = fileURLToPath(
  new URL(import.meta.url.includes('/dist/workspace/') ? '../../../..' : '../..', import.meta.url),
);
/** So that its young generation is not collected within a count of what is allocated. */
const HEAP = ['--expose-gc', '--min-semi-space-size=512', '--max-semi-space-size=512'];

export interface ServerOptions {
  /** So that bytes on the heap tell what was allocated. */
  readonly countsHeap?: boolean;
  readonly build?: 'own' | 'other' | 'peers';
  /** The checkout of the other build. */
  readonly against?: string | undefined;
}

export async function startServerUnderTest(
  settings: ServerSettings,
  { countsHeap = false, build = 'own', against = '.' }: ServerOptions = {},
): Promise<ServerUnderTest> {
  const env = { BENCH_SERVER: JSON.stringify(settings), NODE_ENV: 'production' };
  const place = { own: [HERE, SERVER], other: [against, SERVER], peers: [HERE, SERVER_OF_PEERS] }[build];
  const module = pathToFileURL(resolve(...place));
  const started = await startChild<Command, Usage>(module, env, countsHeap ? HEAP : []);
  const child: Child<Command, Usage> = started.child;
  const { url } = started.first as { url: string };
  const post = async (path: string, key: string): Promise<Response> => {
    const headers = { 'content-type': 'application/json', 'idempotency-key': key };
    return fetch(url + path, { method: 'POST', body: ORDER, headers });
  };
  const knowOne = async (path: string, key: string): Promise<void> => {
    const answer = await post(path, key);
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
    await answer.arrayBuffer();
  };
  return {
    url,
    ask: (command) => child.ask(command),
    know: async (path, prefix, count) => {
      for (let number = 0; number < count; number++) await knowOne(path, `${prefix}-${number}`);
    },
    knowOne,
    holding: async (key, work) => {
      const held = post('/held', key);
      for (;;) {
        const { count } = (await (await fetch(`${url}/held`)).json()) as { count: number };
        if (count > 0) break;
      }
      try {
        return await work();
      } finally {
        await fetch(`${url}/held/release`, { method: 'POST' });
        await (await held).arrayBuffer();
      }
    },
    stop: () => child.stop(),
  };
}
