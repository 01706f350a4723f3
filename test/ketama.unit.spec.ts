import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { KetamaRing, type NodeAddress } from '../libs/idempotency/src/cache/memcached/ketama-ring.js';
import { NODE_LISTS, readVectors, VECTOR_KEYS, vectorText } from './support/ketama-vectors.js';

const KEYS = Array.from(
  { length: 100_000 },
  (_, index) => `shop:${createHash('sha256').update(String(index)).digest('hex')}`,
);

const nodesOf = (count: number): NodeAddress[] =>
  Array.from({ length: count }, (_, index) => ({ host: `10.0.0.${index + 1}`, port: 11211 }));

/** Each key's node by name. */
function mapping(nodes: readonly NodeAddress[]): string[] {
  const ring = new KetamaRing(nodes);
  return KEYS.map((key) => (nodes[ring.ownerOf(key)] as NodeAddress).host);
}

describe('the ring of nodes', { timeout: 60_000 }, () => {
  it('gives keys to the nodes that libmemcached gives them to', () => {
    const owners = NODE_LISTS.map((nodes) => {
      const ring = new KetamaRing(nodes);
      return VECTOR_KEYS.map((key) => ring.ownerOf(key));
    });
    expect(vectorText(owners)).toBe(readVectors());
  });

  it('does not depend on the order in which nodes are written', () => {
    expect(mapping(nodesOf(5).toReversed())).toEqual(mapping(nodesOf(5)));
  });

  it.each([3, 5, 10])('moves the keys of the node that is removed, of %i, and no other', (count) => {
    const nodes = nodesOf(count);
    const before = mapping(nodes);
    // The first, the last and one between: each costs 100,000 hashes.
    for (const removed of [nodes[0], nodes[count >> 1], nodes[count - 1]] as NodeAddress[]) {
      const after = mapping(nodes.filter((node) => node !== removed));
      const moved = KEYS.flatMap((_, index) => (before[index] === after[index] ? [] : [before[index]]));
      expect(moved.length).toBeLessThanOrEqual((1.5 / count) * KEYS.length);
      expect(new Set(moved)).toEqual(new Set([removed.host]));
    }
  });

  it.each([3, 5, 10])('moves keys to the node that is added to %i, and to no other', (count) => {
    const [before, after] = [mapping(nodesOf(count)), mapping(nodesOf(count + 1))];
    const moved = KEYS.flatMap((_, index) => (before[index] === after[index] ? [] : [after[index]]));
    expect(moved.length).toBeLessThanOrEqual((1.5 / (count + 1)) * KEYS.length);
    expect(new Set(moved)).toEqual(new Set([`10.0.0.${count + 1}`]));
  });

  it.each([3, 5, 10])('spreads keys over %i nodes', (count) => {
    const shares = new Map<string, number>();
    for (const host of mapping(nodesOf(count))) shares.set(host, (shares.get(host) ?? 0) + 1);
    const fair = KEYS.length / count;
    const [least, most] = [Math.min(...shares.values()) / fair, Math.max(...shares.values()) / fair];
    console.info(
      `${count} nodes: the least has ${least.toFixed(2)} of an even share, the most ${most.toFixed(2)}`,
    );
    expect(shares.size).toBe(count);
    expect(least).toBeGreaterThan(0.7);
    expect(most).toBeLessThan(1.3);
  });
});
