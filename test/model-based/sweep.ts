import { expect } from 'vitest';
import { ThawCache } from './commands/caches.js';
import { nameOf } from './commands/command.js';
import type { ReferenceModel } from './reference-model.js';
import type { World } from './world.js';

/** At the end every key answers for good, on both instances the same, and the ledger has what the model says. */
export async function sweep(model: ReferenceModel, world: World): Promise<void> {
  const thaw = new ThawCache();
  if (thaw.check(model)) await thaw.run(model, world);
  for (const { target } of model.keys.values()) {
    const amount = model.record(target)?.amount ?? 1;
    const ask = async (): Promise<number> => {
      const expected = model.request(target, amount, 'answer');
      expect({ of: nameOf(target), ...(await world.ask(target, { place: 'here', amount })) }).toEqual({
        of: nameOf(target),
        ...expected,
      });
      return expected.status;
    };
    const status = await ask();
    if (model.record(target)?.state === 'abandoned') {
      // Nobody runs it any more, until a person has decided.
      expect([500, 503]).toContain(status);
      expect(await world.decide(target, 'release')).toBe(model.decide(target, 'release'));
      await ask();
    }
    expect(['completed', 'error', 'erased']).toContain(model.record(target)?.state);
    expect(await world.ask(target, { place: 'there', amount })).toEqual(model.known(target, amount));
  }
  await world.compare(model);
}
