import { parseArgs } from 'node:util';
import { PLATFORMS, type Platform } from './server/settings.js';

/** What a run measures and how long; printed beside its figures. */
export interface Configuration {
  readonly platforms: readonly Platform[];
  readonly concurrencies: readonly number[];
  readonly rounds: number;
  readonly secondsPerRun: number;
  readonly poolSize: number;
  readonly pipeline: boolean;
  /** Workloads by name; all of them when it is empty. */
  readonly only: readonly string[];
  readonly jsonFile: string | undefined;
  /** A checkout of another version, built by `npm run bench` there, whose protected handler is measured beside this one's. */
  readonly against: string | undefined;
  /** Whether the other layers in `bench/peers` are measured too, each against its own plain handler. */
  readonly peers: boolean;
}

const FULL = { platforms: PLATFORMS, concurrencies: [1, 16, 64], rounds: 5, secondsPerRun: 3 };
/** Under three minutes. */
const QUICK = { platforms: ['express'] as const, concurrencies: [16], rounds: 2, secondsPerRun: 1 };

export const USAGE = `npm run bench -- [--quick] [--json FILE] [--platform NAME]… [--concurrency N]… [--rounds N] [--seconds N]
                 [--only WORKLOAD]… [--pool N] [--no-pipeline]
                 [--against CHECKOUT] [--peers]`;

/** @throws when an argument is not understood, naming it. */
export function readConfiguration(args: readonly string[]): Configuration {
  const { values } = parseArgs({
    args: [...args],
    allowNegative: true,
    options: {
      quick: { type: 'boolean', default: false },
      json: { type: 'string' },
      platform: { type: 'string', multiple: true },
      concurrency: { type: 'string', multiple: true },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      only: { type: 'string', multiple: true },
      pool: { type: 'string' },
      against: { type: 'string' },
      peers: { type: 'boolean', default: false },
      pipeline: { type: 'boolean', default: true },
    },
  });
  const form = values.quick ? QUICK : FULL;
  return {
    platforms: values.platform?.map(platformOf) ?? form.platforms,
    concurrencies: values.concurrency?.map((text) => positive('--concurrency', text)) ?? form.concurrencies,
    rounds: values.rounds === undefined ? form.rounds : positive('--rounds', values.rounds),
    secondsPerRun: values.seconds === undefined ? form.secondsPerRun : positive('--seconds', values.seconds),
    poolSize: values.pool === undefined ? 20 : positive('--pool', values.pool),
    pipeline: values.pipeline,
    only: values.only ?? [],
    jsonFile: values.json,
    against: values.against,
    peers: values.peers,
  };
}

function platformOf(name: string): Platform {
  const platform = PLATFORMS.find((known) => known === name);
  if (!platform) throw new Error(`--platform is ${name}: known are ${PLATFORMS.join(', ')}`);
  return platform;
}

function positive(option: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new Error(`${option} is ${text}: a number above 0 is needed`);
  return value;
}
