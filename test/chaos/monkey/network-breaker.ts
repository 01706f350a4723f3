import { setTimeout as pause } from 'node:timers/promises';
import type { FaultProxy, WayFault } from '../../support/fault-proxy.js';
import type { Random } from '../random.js';
import { during, type Hand, type Workshop } from './hand.js';

type Break = WayFault | { readonly kind: 'half-close'; readonly direction: 'to-server' | 'to-client' };

const BREAKS: readonly Break[] = [
  { kind: 'drop' },
  { kind: 'reset' },
  { kind: 'black-hole', direction: 'to-server' },
  { kind: 'black-hole', direction: 'to-client' },
  { kind: 'black-hole', direction: 'both' },
  { kind: 'half-close', direction: 'to-server' },
  { kind: 'half-close', direction: 'to-client' },
  { kind: 'delay', direction: 'both', delayMs: 100 },
  { kind: 'throttle', direction: 'both', bytesPerSecond: 20_000 },
  { kind: 'one-byte-chunks', direction: 'both' },
];

/** Makes one way bad for a while: to PostgreSQL, to a cache, or from the clients. */
export class NetworkBreaker implements Hand {
  readonly name = 'network';
  #next = 0;

  async strike({ world, log, tally }: Workshop, random: Random): Promise<void> {
    const ways: readonly (readonly [string, FaultProxy])[] = [
      ...world.databaseWays.map((way, index) => [`database of ${index}`, way] as const),
      ...Object.entries(world.cacheWays),
      ['clients', world.clientWay],
    ];
    const [target, way] = random.pick(ways);
    const fault = BREAKS[this.#next++ % BREAKS.length] as Break;
    await during(log, `network ${fault.kind}`, target, async () => {
      if (fault.kind === 'half-close') way.halfClose(fault.direction);
      else way.setFault(fault);
      await pause(random.int(100, 800));
      way.setFault();
    });
    tally.add(`network ${fault.kind}`);
  }
}
