// `npm run bench:growth`: what a protected handler costs when the table has grown, how large a record is, and what the reaper does.
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import { parseArgs } from 'node:util';
import type { LoadOrder, LoadResult } from '../load/load.js';
import type { ServerSettings } from '../server/settings.js';
import { startChild } from '../services/child.js';
import { type ServerUnderTest, startServerUnderTest } from '../services/server-under-test.js';
import { POSTGRES_SETTINGS, startServices } from '../services/servers.js';
import { churn } from './churn.js';
import { measureRecordSize } from './record-size.js';
import { measureReaping } from './reaping.js';
import { type Grown, leastToReplay, measureSizes } from './sizes.js';
import { createDatabase, fill } from './tables.js';

const { values } = parseArgs({
  options: {
    records: { type: 'string', default: '0,1000000,10000000' },
    rounds: { type: 'string', default: '7' },
    expired: { type: 'string', default: '500000' },
    churn: { type: 'string', default: '0' },
    json: { type: 'string' },
  },
});
const sizes = values.records.split(',').map(Number);
const [rounds, expired, churnMinutes] = [values.rounds, values.expired, values.churn].map(Number) as [
  number,
  number,
  number,
];
if (![...sizes, rounds, expired, churnMinutes].every((value) => Number.isInteger(value) && value >= 0)) {
  console.error(
    'npm run bench:growth -- [--records 0,1000000,10000000] [--rounds 7] [--expired 500000] [--churn MINUTES] [--json FILE]',
  );
  process.exit(1);
}

/** A table that does not fit is read from the disk, or from the system's cache: give PostgreSQL a quarter of the memory, as its manual says. */
const SETTINGS = { shared_buffers: `${Math.round(os.totalmem() / 4 / 2 ** 20)}MB` };
const services = await startServices({ redis: false, settings: SETTINGS });
const servers: ServerUnderTest[] = [];
const serverOn = async (
  databaseUrl: string,
  records?: ServerSettings['records'],
): Promise<ServerUnderTest> => {
  const shared = { platform: 'express', protection: 'no cache', poolSize: 20, pipeline: true } as const;
  const settings = { ...shared, databaseUrl, redisUrl: '', ...(records ? { records } : {}) };
  const server = await startServerUnderTest(settings);
  servers.push(server);
  return server;
};
const { child: load } = await startChild<LoadOrder, LoadResult>(new URL('../load/main.js', import.meta.url));
const configuration = {
  sizes,
  rounds,
  expired,
  churnMinutes,
  postgres: services.postgresVersion,
  postgresSettings: { ...POSTGRES_SETTINGS, ...SETTINGS },
  node: process.version,
  cpu: os.cpus()[0]?.model ?? '',
  cores: os.availableParallelism(),
  date: new Date().toISOString(),
};
console.log(configuration);
try {
  const grow = async (records: number): Promise<Grown> => {
    const began = performance.now();
    const { url, look } = await createDatabase(services.databaseUrl, `bench_${records}`);
    const server = await serverOn(url);
    const prefix = `grown-${records}`;
    await server.knowOne('/protected', `${prefix}-template`);
    await fill(look, prefix, records);
    console.error(`${records} records: ${((performance.now() - began) / 1_000).toFixed(0)} s`);
    return { records, prefix, url, server, look };
  };
  const grown: Grown[] = [];
  for (const records of sizes) grown.push(await grow(records));
  // The smallest may have too little to replay.
  const least = leastToReplay(rounds);
  const enough = grown.filter(({ records }) => records >= least);
  const isThere = enough.length === grown.length || enough.some(({ records }) => records === least);
  const toReplay = isThere ? enough : [await grow(least), ...enough];
  const growth = await measureSizes(load, { grown, toReplay, rounds }, (round) =>
    console.error(`round ${round + 1}`),
  );
  console.table(growth);
  const written = await createDatabase(services.databaseUrl, 'bench_written');
  const size = await measureRecordSize(load, { ...written, server: await serverOn(written.url) });
  await written.look.end();
  console.log('a record:', size);
  const largest = grown.at(-1) as Grown;
  const reaping =
    expired === 0 || largest.records < expired
      ? undefined
      : await measureReaping(load, largest, expired, () =>
          serverOn(largest.url, { ttl: '1d', reapInterval: '1s' }),
        );
  console.log('the reaper:', reaping);
  for (const { look } of new Set([...grown, ...toReplay])) await look.end();
  let churned;
  if (churnMinutes > 0) {
    const { url, look } = await createDatabase(services.databaseUrl, 'bench_churn');
    const server = await serverOn(url, { ttl: '1m', reapInterval: '5s' });
    churned = await churn(load, { server, look, minutes: churnMinutes }, (minute) => console.error(minute));
    console.table(churned);
    await look.end();
  }
  if (values.json !== undefined) {
    const result = { configuration, growth, size, reaping, churn: churned };
    writeFileSync(values.json, `${JSON.stringify(result, undefined, 2)}\n`);
  }
} finally {
  await Promise.all(servers.map((server) => server.stop()));
  await load.stop();
  await services.stop();
}
