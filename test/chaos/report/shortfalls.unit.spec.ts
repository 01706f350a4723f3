import { describe, expect, it } from 'vitest';
import { FAILPOINT_NAMES } from '../monkey/failpoints.js';
import { Tally } from '../monkey/tally.js';
import { planOf } from '../plan.js';
import { shortfalls } from './shortfalls.js';

const { least } = planOf(['--gate', '--seed', '1']);

const done = (): Tally => {
  const tally = new Tally();
  for (const point of FAILPOINT_NAMES) tally.add(`kill at ${point}`, 20);
  tally.add('zombie at step-done', 50);
  tally.add('lost COMMIT', 200);
  tally.add('database crash', 5);
  tally.add('terminated backend', 1_000);
  return tally;
};

describe('what the form of CI has to show', () => {
  it('is shown when all of it has happened', () => {
    expect(shortfalls(least, done(), 50_000)).toEqual([]);
  });

  it.each([
    ['kill at committed', 'kills: 299 of 300'],
    ['zombie at step-done', 'zombies: 49 of 50'],
    ['lost COMMIT', 'lostCommits: 199 of 200'],
    ['database crash', 'crashes: 4 of 5'],
    ['terminated backend', 'terminated: 999 of 1000'],
  ])('is not shown with one %s less', (name, line) => {
    const tally = done();
    tally.add(name, -1);

    expect(shortfalls(least, tally, 50_000)).toEqual([line]);
  });

  it('is not shown with fewer requests, nor with kills that leave a failpoint out', () => {
    const tally = done();
    tally.add('kill at committed', -11);
    tally.add('kill anywhere', 11);

    expect(shortfalls(least, tally, 49_999)).toEqual([
      'requests: 49999 of 50000',
      'kills at committed: 9 of 10',
    ]);
  });
});
