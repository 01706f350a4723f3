import { until } from '../../../deploy/local/until.js';
import type { Random } from '../random.js';
import type { Instance } from '../world/instance.js';

/** Never killed and never frozen: what it holds after an hour tells of leaks. Everything else befalls it as it does the others. */
export const SPARED = 3;

const FREE_WITHIN_MS = 60_000;

/** Lends instances to hands: one thing is done to each at a time, and who has asked first is served first. */
export class Lending {
  readonly #lent = new Set<Instance>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(private readonly instances: readonly Instance[]) {}

  /** Takes an instance that is up and whole, as soon as there is one, while `work` goes on. */
  async use(random: Random, work: (instance: Instance) => Promise<void>): Promise<void> {
    const asked = this.#turn.then(() => this.#next(random));
    this.#turn = asked.catch(() => undefined);
    const instance = await asked;
    try {
      await work(instance);
    } finally {
      this.#lent.delete(instance);
    }
  }

  /** One that nothing is done to. There is always one: the spared one at least. */
  otherThan(than: Instance): Instance {
    const other = this.instances.find((one) => one !== than && one.isUp && !this.#lent.has(one));
    if (other === undefined) throw new Error('no instance is up, not even the one that is spared');
    return other;
  }

  async #next(random: Random): Promise<Instance> {
    const instance = await until(
      'an instance is free',
      () => {
        const free = this.instances.filter((one) => one.index !== SPARED && one.isUp && !this.#lent.has(one));
        return free.length > 0 && random.pick(free);
      },
      FREE_WITHIN_MS,
    );
    this.#lent.add(instance);
    return instance;
  }
}
