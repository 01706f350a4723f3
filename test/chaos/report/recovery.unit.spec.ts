import { describe, expect, it } from 'vitest';
import type { Fault } from '../history/event.js';
import { type Ended, recoveriesOf } from './recovery.js';

const crash = (atMs: number, untilMs: number): Fault => ({
  kind: 'fault',
  name: 'crash',
  target: 'PostgreSQL',
  atMs,
  untilMs,
});

/** A request every ten milliseconds. */
const requests = (fromMs: number, toMs: number, isAnswered: (sentMs: number) => boolean): readonly Ended[] =>
  Array.from({ length: (toMs - fromMs) / 10 }, (_, index) => fromMs + index * 10).map((sentMs) => ({
    sentMs,
    isAnswered: isAnswered(sentMs),
  }));

describe('the recovery from a crash of the database', () => {
  it('is over where a second begins of whose requests 99 % are answered', () => {
    const ended = requests(0, 10_000, (sentMs) => sentMs < 1_000 || sentMs >= 3_400);

    // One of a hundred may fail: the one before.
    expect(recoveriesOf([crash(1_000, 3_000)], ended)).toEqual([{ databaseMs: 2_000, applicationMs: 390 }]);
  });

  it('is over at once where nothing fails', () => {
    expect(
      recoveriesOf(
        [crash(1_000, 3_000)],
        requests(0, 10_000, () => true),
      ),
    ).toEqual([{ databaseMs: 2_000, applicationMs: 0 }]);
  });

  it('asks for no more than what is answered under the other faults', () => {
    // Every tenth request meets something else.
    const ended = requests(0, 40_000, (sentMs) => sentMs % 100 !== 0 && (sentMs < 1_000 || sentMs >= 3_400));
    const other: Fault = { ...crash(0, 39_990), name: 'kill' };

    expect(recoveriesOf([other, crash(1_000, 3_000)], ended)).toEqual([
      { databaseMs: 2_000, applicationMs: 400 },
    ]);
  });

  it('is not told where the next crash comes before', () => {
    const ended = requests(0, 10_000, (sentMs) => sentMs >= 6_000);

    expect(recoveriesOf([crash(1_000, 2_000), crash(4_000, 5_000)], ended)).toEqual([
      { databaseMs: 1_000, applicationMs: 990 },
    ]);
  });

  it('is not told by a handful of requests', () => {
    const ended = requests(3_000, 3_100, () => true);

    expect(recoveriesOf([crash(1_000, 3_000)], ended)).toEqual([]);
  });
});
