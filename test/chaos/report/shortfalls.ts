import type { Least } from '../plan.js';
import type { Run } from '../run.js';
import { FAILPOINT_NAMES } from '../monkey/failpoints.js';

/** What a run was to do and has not done: it has shown less than it says. */
export function shortfalls(
  least: Least,
  { tally, requests }: Pick<Run, 'tally' | 'requests'>,
): readonly string[] {
  const done: Readonly<Record<keyof Least, number>> = {
    kills: tally.sum('kill'),
    zombies: tally.sum('zombie'),
    lostCommits: tally.sum('lost COMMIT'),
    crashes: tally.sum('database crash'),
    terminated: tally.sum('terminated backend'),
    requests,
  };
  const fewer = (Object.keys(least) as (keyof Least)[])
    .filter((name) => done[name] < least[name])
    .map((name) => `${name}: ${done[name]} of ${least[name]}`);
  const never =
    least.kills === 0 ? [] : FAILPOINT_NAMES.filter((point) => tally.sum(`kill at ${point}`) === 0);
  return [...fewer, ...never.map((point) => `no kill at ${point}`)];
}
