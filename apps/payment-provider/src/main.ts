import { once } from 'node:events';
import type { Server } from 'node:http';
import { ConfigError, ledgerFailure, listenFailure, readConfig, type ProviderConfig } from './config.js';
import { LedgerError } from './ledger.js';
import { createProvider, type Provider } from './provider.js';

await main();

async function main(): Promise<void> {
  try {
    const config = readConfig(process.env);
    const provider = create(config);
    stopOnSignal(provider);
    await listen(provider.server, config);
    console.log(`payment provider listening on ${urlOf(provider.server)}`);
  } catch (error) {
    // What a person at the terminal can act on is said without a stack.
    console.error(error instanceof ConfigError ? error.message : error);
    process.exit(1);
  }
}

function create(config: ProviderConfig): Provider {
  try {
    return createProvider(config);
  } catch (error) {
    throw error instanceof LedgerError ? ledgerFailure(error.message, config) : error;
  }
}

/** Repeats are ignored: on Ctrl-C, npm passes on the signal that the terminal has sent to this process already. */
function stopOnSignal(provider: Provider): void {
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => void provider.close().then(() => process.exit(0)));
  }
}

async function listen(server: Server, config: ProviderConfig): Promise<void> {
  server.listen(config.port, config.host);
  try {
    await once(server, 'listening');
  } catch (error) {
    throw listenFailure(error, config);
  }
}

function urlOf(server: Server): string {
  const address = server.address();
  if (address === null || typeof address === 'string') return String(address);
  // An address that stands for all of them is no use in a link.
  const host = /^(?:::|0\.0\.0\.0)$/.test(address.address) ? 'localhost' : address.address;
  return `http://${host.includes(':') ? `[${host}]` : host}:${address.port}`;
}
