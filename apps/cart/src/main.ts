import { randomUUID } from 'node:crypto';
import type { INestApplication } from '@nestjs/common';
import { IdempotencyConfigurationError } from 'nestjs-pg-idempotency';
import { ConfigError, describeDatabase, logLevelsFrom, readConfig, type CartConfig } from './config.js';
import { createCartApp } from './create-app.js';
import {
  EmbeddedPostgresInUseError,
  startEmbeddedPostgres,
  type EmbeddedPostgres,
} from './database/embedded-postgres.js';
import { ensurePortFree, ensureReachable, listenFailure } from './preflight.js';
import { replayCacheOf } from './replay-cache/replay-cache.js';
import { countRequests, drain, DRAIN_MS, onStopSignal } from './shutdown.js';

/** What is up, and has to come down again in the reverse order. */
const up: { postgres?: EmbeddedPostgres; app?: INestApplication; requests?: () => number } = {};
let stopping: Promise<never> | undefined;

await main();

async function main(): Promise<void> {
  const started = start();
  onStopSignal(async () => {
    // Half-way through the start there is nothing to drain: stop what came up so far.
    await started.catch(() => undefined);
    await stop(0);
  });
  try {
    await started;
  } catch (error) {
    console.error(explain(error));
    await stop(1);
  }
}

async function start(): Promise<void> {
  const config = readConfig(process.env);
  if (config.databaseUrl !== undefined) await ensureReachable(config.databaseUrl);
  const database = config.databaseUrl ?? (await startDatabase(config));
  await ensurePortFree(config.port, config.host);
  const replayCache = await replayCacheOf(config);
  up.app = await createCartApp({
    ...config,
    databaseUrl: database,
    idempotency: {
      onInFlight: config.onInFlight,
      leaseTtl: config.leaseTtl,
      drainTimeout: DRAIN_MS,
      completer: config.completeAfter !== undefined && { after: config.completeAfter },
      ...(replayCache ? { replayCache } : {}),
    },
    logger: logLevelsFrom(config.logLevel),
  });
  up.requests = countRequests(up.app.getHttpServer());
  await up.app.listen(config.port, config.host).catch((error: unknown) => {
    throw listenFailure(error, config.port, config.host);
  });
  welcome(await addressOf(up.app), config);
}

async function startDatabase(config: CartConfig): Promise<string> {
  console.log('starting PostgreSQL…');
  const postgres = await startEmbeddedPostgres({ dataDir: config.dataDir }).catch((error: unknown) => {
    if (!(error instanceof Error) || error instanceof EmbeddedPostgresInUseError) throw error;
    // Its messages say what to do; where in the code they come from helps nobody at the terminal.
    throw new ConfigError(`The embedded PostgreSQL does not start. ${error.message}`, { cause: error });
  });
  up.postgres = postgres;
  for (const notice of postgres.notices) console.warn(notice);
  void stopWhenItEnds(postgres);
  return postgres.url;
}

/** Nothing restarts the embedded server: going on without it would only answer errors. */
async function stopWhenItEnds({ exited, logFile }: EmbeddedPostgres): Promise<void> {
  const { log } = await exited;
  if (stopping) return;
  console.error(`The embedded PostgreSQL ended; the end of ${logFile}:\n${log}`);
  await stop(1);
}

async function stop(code: number): Promise<never> {
  stopping ??= (async (): Promise<never> => {
    let exitCode = code;
    try {
      if (up.app) await drain(up.app, up.requests ?? (() => 0));
    } catch (error) {
      console.error(explain(error));
      exitCode = 1;
    }
    // The database last: the requests that were still in flight needed it.
    await up.postgres?.stop().catch((error: unknown) => {
      console.error(explain(error));
      exitCode = 1;
    });
    process.exit(exitCode);
  })();
  return stopping;
}

async function addressOf(app: INestApplication): Promise<string> {
  // An address like [::1] or one that stands for all of them is no use in a link.
  const url = await app.getUrl();
  return url.replace('//[::1]', '//localhost').replace(/\/\/(?:\[::\]|0\.0\.0\.0)/, '//localhost');
}

function welcome(url: string, config: CartConfig): void {
  const database = up.postgres
    ? `embedded PostgreSQL 18 on 127.0.0.1:${up.postgres.port}, data in ${up.postgres.clusterDir}`
    : `PostgreSQL at ${describeDatabase(config.databaseUrl ?? '')}`;
  console.log(
    [
      `cart API listening on ${url}`,
      `  docs      ${url}/docs`,
      `  health    ${url}/health`,
      `  database  ${database}`,
      `  payments  ${config.paymentProviderUrl}`,
      'Add an item; run it twice, and the second answer is a replay of the first:',
      `  curl -i ${url}/carts/alice/items -H 'Idempotency-Key: ${randomUUID()}' \\`,
      `    -H 'Content-Type: application/json' -d '{"itemId":"book","quantity":2}'`,
      'Then check the cart out: the provider charges once, however often it is run:',
      `  curl -i -X POST ${url}/carts/alice/checkout -H 'Idempotency-Key: ${randomUUID()}'`,
    ].join('\n'),
  );
}

/** What a person at the terminal can act on is said without a stack. */
function explain(error: unknown): string {
  if (error instanceof IdempotencyConfigurationError) return error.message;
  if (error instanceof ConfigError || error instanceof EmbeddedPostgresInUseError) return error.message;
  if (error instanceof Error) return error.stack ?? error.message;
  return String(error);
}
