import { setTimeout as pause } from 'node:timers/promises';
import type { Random } from '../random.js';
import type { Caller } from './caller.js';
import type { Outcome } from './outcome.js';
import { type Route, wishOf, type Wish } from './subject.js';

export interface TrafficOptions {
  readonly clients: number;
  /** Requests that each client sends in a second at most. */
  readonly pace: number;
  /** How often a client asks again at most when it has its answer. */
  readonly duplicates: number;
  readonly random: Random;
}

/** How often a client asks before it leaves the rest to the sweep. */
const PATIENCE = 10;
const USERS = 40;
const ROUTES: Readonly<Record<Route, number>> = { transaction: 82, 'lease-retry': 13, 'lease-fail': 5 };
const BEHAVIOURS: Readonly<Record<Exclude<Wish['behaviour'], 'linger'>, number>> = {
  succeed: 88,
  refuse: 7,
  stumble: 5,
};

/** Clients as they are: impatient, doubled, forgetful, and now and then wrong. */
export class Traffic {
  /** What was asked for so far, each to be answered in the end. */
  readonly wishes: Wish[] = [];
  #isOver = false;
  #running: Promise<unknown> = Promise.resolve();
  #keys = 0;

  constructor(
    private readonly caller: Caller,
    private readonly options: TrafficOptions,
  ) {}

  start(): void {
    const { clients, random } = this.options;
    const each = Array.from({ length: clients }, () => random.fork());
    this.#running = Promise.all(each.map((own) => this.#live(own)));
  }

  /** A wish that nobody has had yet. */
  newWish(
    random: Random,
    {
      route = random.weighted(ROUTES),
      behaviour = route === 'transaction' ? random.weighted(BEHAVIOURS) : 'succeed',
    }: { readonly route?: Route; readonly behaviour?: Wish['behaviour'] | undefined } = {},
  ): Wish {
    const number = ++this.#keys;
    const wish = wishOf(route, `user-${random.int(1, USERS)}`, {
      key: `key-${number}`,
      payload: `payload-${number}`,
      behaviour,
    });
    this.wishes.push(wish);
    return wish;
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#running;
  }

  async #live(random: Random): Promise<void> {
    while (!this.#isOver) await this.#fulfil(this.newWish(random), random);
  }

  /** From the first try to the last duplicate. */
  async #fulfil(wish: Wish, random: Random): Promise<void> {
    const doubled = random.chance(0.25) ? random.int(2, 4) : 1;
    const first = await this.#ask(() =>
      Promise.all(Array.from({ length: doubled }, () => this.caller.call(wish))),
    );
    const isFinal = (outcomes: readonly Outcome[]): boolean => outcomes.some(({ kind }) => kind === 'ok');
    let outcomes = first;
    for (let tries = 0; !isFinal(outcomes) && tries < PATIENCE && !this.#isOver; tries++) {
      await pause(random.int(20, 60) * 2 ** Math.min(tries, 4));
      outcomes = await this.#ask(async () => [await this.caller.call(wish)]);
    }
    const duplicates = random.int(1, this.options.duplicates);
    for (let count = 0; count < duplicates && !this.#isOver; count++) {
      if (random.chance(0.05))
        await this.#ask(() => this.caller.call(wish, { payload: `not ${wish.payload}` }));
      else await this.#ask(() => this.caller.call(wish));
    }
    if (random.chance(0.05) && !this.#isOver) await this.#askAsAnother(wish);
  }

  /** The same key of another user is another key. */
  async #askAsAnother({ operation, key, payload }: Wish): Promise<void> {
    const route = operation.split('/').at(-1) as Route;
    const other = wishOf(route, `stranger-${key}`, {
      key,
      payload: `other ${payload}`,
      behaviour: 'succeed',
    });
    this.wishes.push(other);
    await this.#ask(() => this.caller.call(other));
  }

  /** Not faster than the pace. */
  async #ask<T>(send: () => Promise<T>): Promise<T> {
    const began = performance.now();
    const answered = await send();
    const leftMs = 1_000 / this.options.pace - (performance.now() - began);
    if (leftMs > 0) await pause(leftMs);
    return answered;
  }
}
