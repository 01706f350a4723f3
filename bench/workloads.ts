import type { Protection } from './server/settings.js';

/** One way to ask a server, over and over. */
export interface Workload {
  readonly name: string;
  readonly path: string;
  /** Whose server is asked: of this build, of the one that it is measured against, of the other layers. */
  readonly build: 'own' | 'other' | 'peers';
  readonly protection: Protection;
  readonly keys: 'fresh' | 'known' | 'mixed' | 'held';
  readonly expected: readonly number[];
  /** Which workload it is compared with. */
  readonly plain: string;
}

export const PLAIN = 'plain transaction';
export const NOOP = 'no-op';
const PLAIN_OF_PEERS = 'plain transaction, NestJS 10';

/** What `plain` makes a transaction around, and what it does without. */
const unprotected = (name: string, path: string): Workload => ({
  name,
  path,
  build: 'own',
  protection: 'absent',
  keys: 'fresh',
  expected: [201],
  plain: PLAIN,
});

const protectedBy = (
  protection: Protection,
  name: string,
  keys: Workload['keys'],
  expected: readonly number[],
  path = '/protected',
): Workload => ({ name, path, build: 'own', protection, keys, expected, plain: PLAIN });

const peer = (
  name: string,
  path: string,
  keys: Workload['keys'],
  protection: Protection = 'redis',
): Workload => ({
  name,
  path,
  build: 'peers',
  protection,
  keys,
  // Their replays keep the status.
  expected: [201],
  plain: PLAIN_OF_PEERS,
});

const WORKLOADS: readonly Workload[] = [
  unprotected(PLAIN, '/plain'),
  unprotected('autocommit', '/autocommit'),
  unprotected(NOOP, '/noop'),
  unprotected('status column by hand', '/by-hand'),
  unprotected("a record's writes alone", '/record-alone'),
  { ...unprotected('plain, in a protected process', '/plain'), protection: 'no cache' },
  { ...unprotected('no-op, in a protected process', '/noop'), protection: 'no cache' },
  protectedBy('no cache', 'first execution', 'fresh', [201]),
  protectedBy('no cache', 'mixed 90/10', 'mixed', [200, 201]),
  protectedBy('no cache', 'replay from PostgreSQL', 'known', [200]),
  protectedBy('memory', 'replay from the process', 'known', [200]),
  protectedBy('redis', 'replay from Redis', 'known', [200]),
  protectedBy('no cache', 'duplicate in flight', 'held', [409], '/held'),
];

const PEERS: readonly Workload[] = [
  peer(PLAIN_OF_PEERS, '/plain', 'fresh', 'absent'),
  peer('@node-idempotency/nestjs, first execution', '/node-idempotency', 'fresh'),
  peer('@node-idempotency/nestjs, replay', '/node-idempotency', 'known'),
  peer('express-idempotency, first execution', '/express-idempotency', 'fresh'),
  peer('express-idempotency, replay', '/express-idempotency', 'known'),
];

/** @throws when a name is not that of a workload. */
export function chooseWorkloads({
  only,
  against,
  peers,
}: {
  readonly only: readonly string[];
  readonly against: string | undefined;
  readonly peers: boolean;
}): readonly Workload[] {
  const known = peers ? [...WORKLOADS, ...PEERS] : WORKLOADS;
  const unknown = only.find((name) => !known.some((workload) => workload.name === name));
  if (unknown !== undefined) {
    throw new Error(`--only is ${unknown}: known are ${known.map(({ name }) => name).join(', ')}`);
  }
  const isChosen = ({ name }: Workload): boolean =>
    only.length === 0 || name === PLAIN || name === PLAIN_OF_PEERS || only.includes(name);
  return known
    .filter(isChosen)
    .flatMap((workload) =>
      against !== undefined && workload.path === '/protected'
        ? [workload, { ...workload, name: `${workload.name}, other build`, build: 'other' as const }]
        : [workload],
    );
}
