import fc, { type Arbitrary } from 'fast-check';
import type { Action, Ending, Place, Target } from '../words.js';
import { FreezeCache, Flush, ThawCache } from './caches.js';
import type { Command } from './command.js';
import { Decide } from './decide.js';
import { Abandon, Overtake, Terminate } from './faults.js';
import { InFlight, Request, Together } from './requests.js';
import { Expire, Outlive, Reap } from './time.js';

const KEYS = [
  ['key-1', 'transaction'],
  ['key-2', 'lease'],
  ['key-3', 'undecided'],
] as const;
const TARGETS: readonly Target[] = ['alice', 'bob'].flatMap((user) =>
  KEYS.map(([key, mode]) => ({ user, key, mode })),
);

const target = fc.constantFrom(...TARGETS);
const place = fc.constantFrom<Place[]>('here', 'there');
/** Mostly that of the first request. */
const amount = fc.constantFrom(1, 1, 1, 2);
const ending = fc.constantFrom<Ending[]>('answer', 'answer', 'answer', 'refuse', 'fail', 'break');
const final = fc.constantFrom('answer', 'refuse');
const action = fc.constantFrom<Action[]>('complete', 'release', 'restart', 'erase');

/** One of its own each time. */
const just = <T>(make: () => T): Arbitrary<T> => fc.constant(undefined).map(make);

const request = fc.tuple(target, place, amount, ending).map((of) => new Request(...of));
const decide = fc.tuple(target, action).map((of) => new Decide(...of));

/** Each as often as the others; those that stand here several times are likelier. */
const COMMON: readonly Arbitrary<Command>[] = [
  request,
  request,
  request,
  request,
  fc.tuple(target, fc.integer({ min: 2, max: 3 }), amount, final).map((of) => new Together(...of)),
  fc.tuple(target, place, amount, ending).map((of) => new InFlight(...of)),
  fc.tuple(target, place, amount).map((of) => new Terminate(...of)),
  fc.tuple(target, fc.integer({ min: 1, max: 2 }), amount).map((of) => new Abandon(...of)),
  fc.tuple(target).map((of) => new Expire(...of)),
  fc.tuple(target).map((of) => new Outlive(...of)),
  just(() => new Reap()),
  decide,
  decide,
];
const OF_CACHES: readonly Arbitrary<Command>[] = [
  fc.constantFrom('memory', 'shared').map((tier) => new Flush(tier)),
  just(() => new FreezeCache()),
  just(() => new ThawCache()),
];
const overtake = fc
  .tuple(target, amount, fc.constantFrom('meanwhile', 'afterwards'))
  .map((of) => new Overtake(...of));

/** With hints an attempt that goes on after its lease says so to the other instance, which believes it: none is overtaken. */
export function commandsFor(traits: { hasCache: boolean; hasHints: boolean }): Arbitrary<Command>[] {
  return [...COMMON, ...(traits.hasCache ? OF_CACHES : []), ...(traits.hasHints ? [] : [overtake])];
}
