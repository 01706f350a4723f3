import { randomUUID } from 'node:crypto';
import type { Configuration } from './configuration.js';
import type { KeyPlan, LoadOrder, LoadResult } from './load/load.js';
import type { Platform } from './server/settings.js';
import { type Child, startChild } from './services/child.js';
import { cpuMsOfTree } from './services/process-tree.js';
import { type ServerUnderTest, startServerUnderTest } from './services/server-under-test.js';
import type { Services } from './services/servers.js';
import type { Workload } from './workloads.js';

/** A workload on a platform, at a concurrency, in a round. */
export interface Sample {
  readonly workload: string;
  /** The one it is compared with. */
  readonly plain: string;
  readonly platform: Platform;
  readonly concurrency: number;
  readonly round: number;
  readonly rps: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Processor time of the server's process, in milliseconds per request. */
  readonly cpuMs: number;
  /** The same of PostgreSQL, all its processes together. */
  readonly postgresCpuMs: number;
}

const KNOWN_KEYS = 500;
const WARM_UP_MS = 3_000;
const SLICE_MS = 1_000;
const RAMP_MS = 500;

/**
 * Measures all workloads side by side. A round is made of slices of a second: each workload has its slice in turn, and then all of
 * them again, so that what else the machine does, and how fast it is just then, meets all alike.
 *
 * @throws when a server answers what the workload does not expect: a wrong answer has no speed.
 */
export async function measure(
  configuration: Configuration,
  workloads: readonly Workload[],
  services: Services,
  onSample: (sample: Sample) => void,
): Promise<void> {
  const { child: load } = await startChild<LoadOrder, LoadResult>(new URL('load/main.js', import.meta.url));
  try {
    for (const platform of configuration.platforms) {
      // The other layers have no Fastify of their own: a middleware of Express, and a NestJS of the same age.
      const possible = workloads.filter(({ build }) => build !== 'peers' || platform === 'express');
      const servers = await startServers(platform, configuration, possible, services);
      try {
        await measureOn(platform, servers, { configuration, workloads: possible, services, load, onSample });
      } finally {
        await Promise.all([...servers.values()].map((server) => server.stop()));
      }
    }
  } finally {
    await load.stop();
  }
}

const serverOf = ({ build, protection }: Workload): string => `${build}, ${protection}`;

async function startServers(
  platform: Platform,
  { poolSize, pipeline, against }: Configuration,
  workloads: readonly Workload[],
  { databaseUrl, redisUrl = '' }: Services,
): Promise<Map<string, ServerUnderTest>> {
  const servers = new Map<string, ServerUnderTest>();
  for (const workload of workloads) {
    const name = serverOf(workload);
    if (servers.has(name)) continue;
    const settings = { platform, protection: workload.protection, databaseUrl, redisUrl, poolSize, pipeline };
    servers.set(name, await startServerUnderTest(settings, { build: workload.build, against }));
  }
  return servers;
}

interface Platter {
  readonly configuration: Configuration;
  readonly workloads: readonly Workload[];
  readonly services: Services;
  readonly load: Child<LoadOrder, LoadResult>;
  readonly onSample: (sample: Sample) => void;
}

/** What one slice came to. */
interface Slice {
  readonly requests: number;
  readonly answered: number;
  readonly seconds: number;
  readonly timesMs: readonly number[];
  readonly cpuMs: number;
  readonly postgresCpuMs: number;
}

async function measureOn(
  platform: Platform,
  servers: ReadonlyMap<string, ServerUnderTest>,
  { configuration, workloads, services, load, onSample }: Platter,
): Promise<void> {
  const known = randomUUID();
  const replayed = workloads.filter(({ keys }) => keys === 'known' || keys === 'mixed');
  const places = new Map(replayed.map((workload) => [serverOf(workload) + workload.path, workload]));
  for (const workload of places.values()) {
    await (servers.get(serverOf(workload)) as ServerUnderTest).know(workload.path, known, KNOWN_KEYS);
  }
  const run = async (workload: Workload, concurrency: number, durationMs: number): Promise<Slice> => {
    const server = servers.get(serverOf(workload)) as ServerUnderTest;
    const { path, expected } = workload;
    const held = randomUUID();
    const keys = planOf(workload, known, held);
    const order = { url: server.url, path, concurrency, rampMs: RAMP_MS, durationMs, keys, expected };
    const cpu = async (): Promise<readonly [number, number]> => [
      (await server.ask('usage')).cpuMs,
      cpuMsOfTree(services.postgresPid),
    ];
    const before = await cpu();
    const ask = (): Promise<LoadResult> => load.ask(order);
    const result = workload.keys === 'held' ? await server.holding(`${held}-0`, ask) : await ask();
    const after = await cpu();
    if (result.unexpected > 0) {
      throw new Error(`${workload.name}: ${result.unexpected} wrong answers, as ${result.example}`);
    }
    return { ...result, cpuMs: after[0] - before[0], postgresCpuMs: after[1] - before[1] };
  };
  for (const workload of workloads) await run(workload, 16, WARM_UP_MS);
  for (const concurrency of configuration.concurrencies) {
    for (let round = 0; round < configuration.rounds; round++) {
      const slices = new Map<Workload, Slice[]>(workloads.map((workload) => [workload, []]));
      for (let slice = 0; slice * SLICE_MS < configuration.secondsPerRun * 1_000; slice++) {
        for (const workload of inTurn(workloads, round + slice)) {
          slices.get(workload)?.push(await run(workload, concurrency, SLICE_MS));
        }
      }
      for (const [{ name, plain }, of] of slices) {
        onSample({ workload: name, plain, platform, concurrency, round, ...sumOf(of) });
      }
    }
  }
}

type Figures = Omit<Sample, 'workload' | 'plain' | 'platform' | 'concurrency' | 'round'>;

function sumOf(slices: readonly Slice[]): Figures {
  const sum = (figure: (slice: Slice) => number): number =>
    slices.reduce((total, slice) => total + figure(slice), 0);
  const requests = sum((slice) => slice.requests);
  const answered = sum((slice) => slice.answered);
  const times = slices.flatMap((slice) => slice.timesMs).toSorted((a, b) => a - b);
  const percentile = (share: number): number =>
    times[Math.min(times.length - 1, Math.ceil(times.length * share) - 1)] ?? Number.NaN;
  return {
    rps: requests / sum((slice) => slice.seconds),
    p50Ms: percentile(0.5),
    p99Ms: percentile(0.99),
    cpuMs: sum((slice) => slice.cpuMs) / answered,
    postgresCpuMs: sum((slice) => slice.postgresCpuMs) / answered,
  };
}

/** Each time another one begins, and every other time they go backwards: none always comes behind the same one. */
function inTurn(workloads: readonly Workload[], turn: number): readonly Workload[] {
  const at = turn % workloads.length;
  const turned = [...workloads.slice(at), ...workloads.slice(0, at)];
  return turn % 2 === 0 ? turned : turned.toReversed();
}

function planOf({ keys }: Workload, known: string, held: string): KeyPlan {
  switch (keys) {
    case 'fresh':
      return { kind: 'fresh', prefix: randomUUID() };
    case 'known':
      return { kind: 'known', prefix: known, count: KNOWN_KEYS };
    case 'mixed':
      return { kind: 'mixed', freshShare: 0.9, fresh: randomUUID(), known, count: KNOWN_KEYS };
    case 'held':
      return { kind: 'known', prefix: held, count: 1 };
  }
}
