import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { uniformInt } from 'pure-rand/distribution/uniformInt';

/** The same decisions for the same seed. */
export interface Random {
  /** From `least` to `most`, both included. */
  int(least: number, most: number): number;
  /** True in `share` of the cases. */
  chance(share: number): boolean;
  pick<T>(from: readonly T[]): T;
  /** One of the names, each as often as its weight says. */
  weighted<Name extends string>(weights: Readonly<Record<Name, number>>): Name;
  /** Decisions of its own for somebody else: what one asks does not change what the other gets. */
  fork(): Random;
}

export function randomOf(seed: number): Random {
  const generator = xoroshiro128plus(seed);
  const int = (least: number, most: number): number => uniformInt(generator, least, most);
  const random: Random = {
    int,
    chance: (share) => int(0, 999_999) < share * 1_000_000,
    pick: (from) => {
      const picked = from[int(0, from.length - 1)];
      if (picked === undefined) throw new Error('there is nothing to pick from');
      return picked;
    },
    weighted: <Name extends string>(weights: Readonly<Record<Name, number>>): Name => {
      const entries = Object.entries<number>(weights) as [Name, number][];
      let left = int(0, 999_999) * (entries.reduce((sum, [, weight]) => sum + weight, 0) / 1_000_000);
      for (const [name, weight] of entries) {
        left -= weight;
        if (left < 0) return name;
      }
      return (entries.at(-1) as [Name, number])[0];
    },
    fork: () => randomOf(int(0, 0x7fff_ffff)),
  };
  return random;
}
