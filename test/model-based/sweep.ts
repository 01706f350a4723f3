import { deepStrictEqual, ok } from 'node:assert/strict';
import { ThawCache } from './commands/caches.js';
import { nameOf } from './commands/command.js';
import type { ReferenceModel } from './reference-model.js';
import type { Target } from './words.js';
import type { World } from './world.js';

const FINAL: readonly unknown[] = ['completed', 'error', 'erased'];

/** At the end every key answers for good, on both instances the same, and the ledger has what the model says. */
export async function sweep(model: ReferenceModel, world: World): Promise<void> {
  const thaw = new ThawCache();
  if (thaw.check(model)) await thaw.run(model, world);
  for (const { target } of model.keys.values()) {
    await ask(model, world, target);
    if (model.record(target)?.state === 'abandoned') {
      // Nobody runs it any more, until a person has decided.
      deepStrictEqual(await world.decide(target, 'release'), model.decide(target, 'release'));
      await ask(model, world, target);
    }
    const record = model.record(target);
    ok(FINAL.includes(record?.state), `${nameOf(target)} has no final outcome`);
    const again = await world.ask(target, { place: 'there', amount: record?.amount ?? 1 });
    deepStrictEqual(again, model.known(target, record?.amount ?? 1));
  }
  await world.compare(model);
}

/** The request that the key is of, or its first one. */
async function ask(model: ReferenceModel, world: World, target: Target): Promise<void> {
  const amount = model.record(target)?.amount ?? 1;
  const answer = await world.ask(target, { place: 'here', amount });
  deepStrictEqual(
    { of: nameOf(target), ...answer },
    { of: nameOf(target), ...model.request(target, amount, 'answer') },
  );
}
