import { setTimeout as pause } from 'node:timers/promises';
import type { Random } from '../random.js';
import { CacheBreaker } from './cache-breaker.js';
import { CommitLoser } from './commit-loser.js';
import { Crasher } from './crasher.js';
import { Freezer } from './freezer.js';
import type { Hand, Workshop } from './hand.js';
import { inTurn, Killer } from './killer.js';
import { NetworkBreaker } from './network-breaker.js';
import { Terminator } from './terminator.js';

/**
 * A third instance may be frozen meanwhile; with one more that is down nginx would try three in vain, and say so to clients that have
 * nothing to do with it.
 */
const KILLERS = 2;

/** How many times in a minute each hand strikes at most; one that takes longer strikes when it is done. */
export interface Rates {
  readonly kill: number;
  readonly freeze: number;
  readonly 'lost COMMIT': number;
  readonly terminate: number;
  readonly crash: number;
  readonly network: number;
  readonly cache: number;
}

/** Breaks things until it is told to stop. Each hand has its own decisions, by the seed. */
export class Monkey {
  #isOver = new AbortController();
  #hands: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly workshop: Workshop,
    private readonly random: Random,
    private readonly rates: Rates,
    private readonly enoughTerminated: number,
  ) {}

  start(): void {
    const { url } = this.workshop.world.database;
    const turns = inTurn();
    const hands: readonly (readonly [number, Hand])[] = [
      // Several at a time: a process takes a while to start.
      ...Array.from({ length: KILLERS }, () => [this.rates.kill / KILLERS, new Killer(url, turns)] as const),
      [this.rates.freeze, new Freezer()],
      [this.rates['lost COMMIT'], new CommitLoser()],
      [this.rates.terminate, new Terminator(this.enoughTerminated)],
      [this.rates.crash, new Crasher()],
      [this.rates.network, new NetworkBreaker()],
      [this.rates.cache, new CacheBreaker()],
    ];
    this.#hands = Promise.all(
      hands
        .filter(([rate]) => rate > 0)
        .map(([rate, hand]) => this.#use(hand, 60_000 / rate, this.random.fork())),
    );
  }

  /** Resolves when everything that was under way has come to its end. */
  async stop(): Promise<void> {
    this.#isOver.abort();
    await this.#hands;
  }

  async #use(hand: Hand, everyMs: number, random: Random): Promise<void> {
    const { signal } = this.#isOver;
    // Not all at the first moment.
    await pause(random.int(0, Math.floor(everyMs)), undefined, { signal }).catch(() => undefined);
    while (!signal.aborted) {
      const began = performance.now();
      await hand.strike(this.workshop, random);
      const leftMs = began + everyMs - performance.now();
      if (leftMs > 0) await pause(leftMs, undefined, { signal }).catch(() => undefined);
    }
    await hand.close?.();
  }
}
