import { startServer, type ServerProcess } from './processes.js';
import { until } from './until.js';

/** An instance of the cart API, as `npm run start:prod` runs it. */
export interface CartInstance extends ServerProcess {
  readonly url: string;
}

/** Starts an instance on a free port of 127.0.0.1; fails when it ends instead, with what it printed. */
export async function startCartInstance(
  env: Readonly<Record<string, string | undefined>>,
  options: { readonly detached?: boolean } = {},
): Promise<CartInstance> {
  const server = startServer(process.execPath, ['dist/apps/cart/main.js'], {
    ...options,
    env: { ...process.env, PORT: '0', HOST: '127.0.0.1', ...env },
  });
  const url = await until(
    'the cart listens',
    () => {
      if (!server.isRunning()) throw new Error(`an instance of the cart ended:\n${server.output()}`);
      return /listening on (http:\S+)/.exec(server.output())?.[1];
    },
    60_000,
  ).catch(async (error: unknown) => {
    await server.end();
    throw error;
  });
  return { ...server, url };
}
