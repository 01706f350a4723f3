import { FAILPOINT_NAMES } from '../monkey/failpoints.js';
import type { Tally } from '../monkey/tally.js';
import type { Least } from '../plan.js';

/**
 * What a run was to do and has not done: it has shown less than it says.
 *
 * @param requests that were checked; without it, only faults are counted.
 */
export function shortfalls(
  least: Least,
  tally: Tally,
  requests = Number.POSITIVE_INFINITY,
): readonly string[] {
  const done: Readonly<Record<Exclude<keyof Least, 'killsAtEach'>, number>> = {
    kills: tally.sum('kill'),
    zombies: tally.sum('zombie'),
    lostCommits: tally.sum('lost COMMIT'),
    crashes: tally.sum('database crash'),
    terminated: tally.sum('terminated backend'),
    requests,
  };
  const fewer = (Object.keys(done) as (keyof typeof done)[])
    .filter((name) => done[name] < least[name])
    .map((name) => `${name}: ${done[name]} of ${least[name]}`);
  const rare = FAILPOINT_NAMES.map((point) => ({ point, kills: tally.sum(`kill at ${point}`) }))
    .filter(({ kills }) => kills < least.killsAtEach)
    .map(({ point, kills }) => `kills at ${point}: ${kills} of ${least.killsAtEach}`);
  return [...fewer, ...rare];
}
