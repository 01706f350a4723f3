// `npm run start:scaled`: what docker-compose.yml starts, without containers, out of Debian's packages: nginx, four instances
// of the cart, PgBouncer, PostgreSQL, a replay cache and the payment provider, all on 127.0.0.1.
//   npm run start:scaled -- --cache memcached     (or redis-cluster, which is the default, or none)
import { randomBytes, randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from './build.mjs';
import { endWithNpm } from './end-with-npm.mjs';
import { startProviderBeside } from './start-provider-beside.mjs';

const CACHES = ['redis-cluster', 'memcached', 'none'];
const { cache, port } = options();

build([
  'libs/idempotency/tsconfig.lib.json',
  'apps/cart/tsconfig.app.json',
  'apps/payment-provider/tsconfig.app.json',
  'deploy/tsconfig.json',
]);
const [
  { missingServers },
  { TOPOLOGY },
  { startEmbeddedPostgres },
  { startPgBouncer },
  { startRedisCluster },
  { startMemcachedNodes },
  { startCartInstance },
  { startNginx },
] = await Promise.all([
  import('../dist/deploy/processes.js'),
  import('../dist/deploy/topology.js'),
  import('../dist/apps/cart/database/embedded-postgres.js'),
  import('../dist/deploy/pgbouncer-server.js'),
  import('../dist/deploy/redis-server.js'),
  import('../dist/deploy/memcached-server.js'),
  import('../dist/deploy/cart-instance.js'),
  import('../dist/deploy/nginx-server.js'),
]);

const missing = missingServers([
  'nginx',
  'pgbouncer',
  ...(cache === 'redis-cluster' ? ['redis-server'] : cache === 'memcached' ? ['memcached'] : []),
]);
if (missing) {
  console.error(`Not installed: ${missing.names.join(', ')}. On Debian 12: ${missing.fix}`);
  process.exit(1);
}

/** What is up, the last one first. */
const up = [];
const started = start();
let stopping;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => void stop(0));
endWithNpm();
try {
  welcome(await started);
} catch (error) {
  if (!stopping) console.error(error instanceof Error ? error.message : error);
  await stop(1);
}

async function start() {
  // Ctrl-C at the terminal is for this process, which ends them in their order.
  const detached = true;
  const paymentProvider = (process.env.PAYMENT_PROVIDER_URL ?? '').trim() || (await startProviderBeside());

  const postgres = await bring('PostgreSQL', () =>
    startEmbeddedPostgres({ dataDir: resolve(process.env.DATA_DIR ?? '.data/scaled') }),
  );
  const pooler = await bring('PgBouncer', () => startPgBouncer({ serverUrl: postgres.url, detached }));
  const replayCache = await bring(cache === 'none' ? 'no replay cache' : cache, () => startCache(detached));
  // One for all: what one instance has sealed the others open.
  const cacheKey = process.env.REPLAY_CACHE_KEY ?? randomBytes(32).toString('hex');
  const carts = await bring(`${TOPOLOGY.carts} instances of the cart`, async () => {
    const results = await Promise.allSettled(
      Array.from({ length: TOPOLOGY.carts }, () =>
        startCartInstance(
          {
            DATABASE_URL: pooler.url(),
            PAYMENT_PROVIDER_URL: paymentProvider,
            REPLAY_CACHE: replayCache.url,
            REPLAY_CACHE_KEY: cacheKey,
          },
          { detached },
        ),
      ),
    );
    const instances = results.flatMap(({ value }) => value ?? []);
    const end = () => Promise.all(instances.map((instance) => instance.end('SIGTERM')));
    const failure = results.find(({ status }) => status === 'rejected');
    if (failure) {
      await end();
      throw failure.reason;
    }
    return { instances, stop: end };
  });
  for (const { process: child, pid, url } of carts.instances) {
    child.once('exit', (code, signal) => {
      if (!stopping) console.error(`The instance ${pid} at ${url} ended (${signal ?? code}).`);
    });
  }
  const nginx = await bring('nginx', () =>
    startNginx({ instances: carts.instances.map(({ url }) => url), port, detached }),
  );
  // The instances end first: they finish what is in flight, whose answers go out through nginx.
  up.unshift(...up.splice(up.indexOf(carts), 1));
  return { nginx, carts, pooler, postgres, replayCache, paymentProvider };
}

function startCache(detached) {
  switch (cache) {
    case 'redis-cluster':
      return startRedisCluster(TOPOLOGY.redisNodes, { detached });
    case 'memcached':
      return startMemcachedNodes(TOPOLOGY.memcachedNodes, { detached });
    default:
      return { url: 'none', stop: async () => undefined };
  }
}

/** Starts a part; a stop that is asked for meanwhile waits for it and then ends it too. */
async function bring(name, begin) {
  if (stopping) throw new Error('stopped');
  console.log(`starting ${name}…`);
  const part = await begin();
  up.unshift(part);
  return part;
}

/** In the order of `up`: what is in flight still has what stands behind it. */
async function stop(code) {
  stopping ??= (async () => {
    console.log('stopping…');
    await started.catch(() => undefined);
    let exitCode = code;
    for (const part of up) {
      await part.stop().catch((error) => {
        console.error(error);
        exitCode = 1;
      });
    }
    process.exit(exitCode);
  })();
  return stopping;
}

function welcome({ nginx, carts, pooler, postgres, replayCache, paymentProvider }) {
  console.log(
    [
      `the scaled-out cart listens on ${nginx.url}`,
      ...carts.instances.map(({ url, pid }) => `  instance   ${url}, process ${pid}`),
      `  pooler     PgBouncer on 127.0.0.1:${pooler.port}`,
      `  database   embedded PostgreSQL on 127.0.0.1:${postgres.port}, data in ${postgres.clusterDir}`,
      `  cache      ${replayCache.url}`,
      `  payments   ${paymentProvider}`,
      'Add an item; run it again, and again with an instance killed, and it is added once:',
      `  curl -i ${nginx.url}/carts/alice/items -H 'Idempotency-Key: ${randomUUID()}' \\`,
      `    -H 'Content-Type: application/json' -d '{"itemId":"book","quantity":2}'`,
    ].join('\n'),
  );
}

function options() {
  try {
    const { values } = parseArgs({ options: { cache: { type: 'string', default: 'redis-cluster' } } });
    if (!CACHES.includes(values.cache)) throw new Error(`--cache is one of ${CACHES.join(', ')}`);
    const number = Number(process.env.PORT ?? 3000);
    if (!Number.isInteger(number) || number < 0 || number > 65_535) throw new Error('PORT is no port');
    return { cache: values.cache, port: number === 0 ? undefined : number };
  } catch (error) {
    console.error(error.message);
    process.exit(2);
  }
}
