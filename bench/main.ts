// `npm run bench`: what a protected handler costs beside the same handler without it, side by side in one run.
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import { readConfiguration, USAGE } from './configuration.js';
import { measure, type Sample } from './measure.js';
import { countersOf } from './counters/counters.js';
import { summarise, tableOf } from './report.js';
import { POSTGRES_SETTINGS, startServices } from './services/servers.js';
import { chooseWorkloads } from './workloads.js';

let configuration;
let workloads;
try {
  configuration = readConfiguration(process.argv.slice(2));
  workloads = chooseWorkloads(configuration);
} catch (error) {
  console.error(`${(error as Error).message}\n${USAGE}`);
  process.exit(1);
}

const services = await startServices();
try {
  if (services.redisUrl === undefined) {
    console.warn(
      'LEFT OUT: what needs Redis, as redis-server is not installed: apt-get install redis-server',
    );
    workloads = workloads.filter(({ protection, build }) => protection !== 'redis' && build !== 'peers');
  }
  const { jsonFile, only: _only, ...measured } = configuration;
  const described = {
    ...measured,
    postgres: services.postgresVersion,
    postgresSettings: POSTGRES_SETTINGS,
    node: process.version,
    cpu: os.cpus()[0]?.model ?? '',
    cores: os.availableParallelism(),
    date: new Date().toISOString(),
  };
  console.log(described);
  const samples: Sample[] = [];
  await measure(configuration, workloads, services, (sample) => {
    samples.push(sample);
    const { platform, concurrency, round, workload, rps } = sample;
    console.error(
      `${platform}, ${concurrency} at once, round ${round + 1}: ${workload}: ${rps.toFixed(0)}/s`,
    );
  });
  const results = summarise(samples);
  console.log(tableOf(results));
  const counters = await countersOf(services.databaseUrl, configuration);
  console.log(counters);
  if (jsonFile !== undefined) {
    writeFileSync(
      jsonFile,
      `${JSON.stringify({ configuration: described, results, counters }, undefined, 2)}\n`,
    );
  }
} finally {
  await services.stop();
}
