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
const action = fc.constantFrom<Action[]>('complete', 'release', 'restart', 'erase');

/** One of its own each time. */
const just = <T>(make: () => T): Arbitrary<T> => fc.constant(undefined).map(make);

const request = fc.tuple(target, place, amount, ending).map((of) => new Request(...of));
const together = fc
  .tuple(target, fc.integer({ min: 2, max: 3 }), amount, fc.constantFrom('answer', 'refuse'))
  .map((of) => new Together(...of));
const inFlight = fc.tuple(target, place, amount, ending).map((of) => new InFlight(...of));
const terminate = fc.tuple(target, place, amount).map((of) => new Terminate(...of));
const abandon = fc.tuple(target, fc.integer({ min: 1, max: 2 }), amount).map((of) => new Abandon(...of));
const overtake = fc
  .tuple(target, amount, fc.constantFrom('meanwhile', 'afterwards'))
  .map((of) => new Overtake(...of));
const decide = fc.tuple(target, action).map((of) => new Decide(...of));
const expire = target.map((of) => new Expire(of));
const outlive = target.map((of) => new Outlive(of));
const reap = just(() => new Reap());
const flush = fc.constantFrom('memory', 'shared').map((tier) => new Flush(tier));
const freeze = just(() => new FreezeCache());
const thaw = just(() => new ThawCache());

/** A command that is as likely as so many others. */
const times = (count: number, command: Arbitrary<Command>): Arbitrary<Command>[] =>
  Array.from({ length: count }, () => command);

/** Those that are seldom possible are drawn more often. */
const COMMON: readonly Arbitrary<Command>[] = [
  ...times(4, request),
  ...times(1, together),
  ...times(2, inFlight),
  ...times(1, terminate),
  ...times(3, abandon),
  ...times(2, expire),
  ...times(1, outlive),
  ...times(1, reap),
  ...times(2, decide),
];
const OF_CACHES: readonly Arbitrary<Command>[] = [flush, freeze, thaw];

/** With hints an attempt that goes on after its lease says so to the other instance, which believes it: none is overtaken. */
export function commandsFor(traits: { hasCache: boolean; hasHints: boolean }): Arbitrary<Command>[] {
  return [...COMMON, ...(traits.hasCache ? OF_CACHES : []), ...(traits.hasHints ? [] : times(2, overtake))];
}
