import { describe, expect, it } from 'vitest';
import type { Sight } from './interleavings/ground.js';
import { violationsOf } from './interleavings/invariants.js';
import { foretell } from './interleavings/message-model.js';
import { Order, permutationsOf, sampleOf } from './interleavings/permutations.js';
import type { Scenario } from './interleavings/scenario.js';

const NONE: Sight = { status: null, attempt: null, born: null, expired: null, effects: 0 };
const PENDING: Sight = { status: 'pending', attempt: 1, born: '100', expired: false, effects: 0 };
const COMPLETED: Sight = { ...PENDING, status: 'completed', effects: 1 };

describe('the orders of turns', () => {
  it('are all of them, each once, and keep the order of each session', () => {
    expect([...permutationsOf({ A: 2, B: 2 })]).toEqual(['AABB', 'ABAB', 'ABBA', 'BAAB', 'BABA', 'BBAA']);
    const three = [...permutationsOf({ A: 3, B: 2, C: 2 })];
    expect(new Set(three).size).toBe(210);
    expect(three).toHaveLength(210);
  });

  it('are the same sample for the same seed, and another one for another', () => {
    const turns = { A: 5, B: 5, C: 2 };
    const sample = sampleOf(turns, 100, 1);
    expect(new Set(sample).size).toBe(100);
    expect(sampleOf(turns, 100, 1)).toEqual(sample);
    expect(sampleOf(turns, 100, 2)).not.toEqual(sample);
    const letters = sample.map((order) => order.split('').toSorted().join(''));
    expect(new Set(letters)).toEqual(new Set(['AAAAABBBBBCC']));
  });

  it('tell when a turn comes, and that one that is not there never does', () => {
    const order = new Order('ABBA');
    expect([order.at('A', 1), order.at('A', 2), order.at('B', 2)]).toEqual([0, 3, 2]);
    expect([order.at('A', 3), order.at('C', 1)]).toEqual([Infinity, Infinity]);
  });
});

describe('what must never be seen', () => {
  it('is not seen in a life that goes its way, nor in the next one', () => {
    const renewed: Sight = { ...PENDING, born: '200', attempt: 2 };
    const lives = [NONE, PENDING, COMPLETED, { ...COMPLETED, expired: true, effects: 0 }, renewed];
    expect(violationsOf(lives, 'with-record')).toEqual([]);
  });

  it.each<[string, Sight[], Scenario['effects']]>([
    ['2 effects', [{ ...COMPLETED, effects: 2 }], 'with-record'],
    ['completed without its effect', [{ ...COMPLETED, effects: 0 }], 'before-record'],
    ['an effect without its completed record', [{ ...PENDING, effects: 1 }], 'with-record'],
    ['a life that is over goes on', [{ ...PENDING, born: '200' }, PENDING], 'none'],
    ['the attempt goes back', [{ ...PENDING, attempt: 2 }, PENDING], 'none'],
    ['a final outcome is undone', [COMPLETED, { ...COMPLETED, status: 'error' }], 'before-record'],
    ['a final outcome gets another attempt', [COMPLETED, { ...COMPLETED, attempt: 2 }], 'with-record'],
  ])('is found: %s', (violation, sights, effects) => {
    expect(violationsOf(sights, effects)).toEqual([violation]);
  });

  it('is no effect before its record where a phase comes first', () => {
    expect(violationsOf([{ ...PENDING, effects: 1 }, COMPLETED], 'before-record')).toEqual([]);
  });
});

describe('the model of messages', () => {
  const two = { A: 'claimant', B: 'claimant' } as const;

  it('gives the record to the one that claims first, and its answer to the other one', () => {
    const expected = foretell(two, undefined);
    expect(expected('AABB')).toBe('A executed#1, B replays A; completed#1, 1 effect');
    expect(expected('ABAB')).toBe('A executed#1, B in-flight; completed#1, 1 effect');
  });

  it('lets the other one begin the attempt that the first has counted', () => {
    const begun = { status: 'pending', attempt: 1, begun: true, expired: false, by: '' } as const;
    // A claims and counts; B claims, A claims once more, B completes.
    expect(foretell(two, begun)('AABABA')).toBe('A in-flight, B executed#2; completed#2, 1 effect');
  });

  it('does not tell which of two is woken first', () => {
    const expired = { status: 'completed', attempt: 1, begun: false, expired: true, by: '' } as const;
    expect(foretell({ ...two, R: 'reaper' }, expired)('RABRAB')).toBeUndefined();
  });
});
