import type { ReferenceModel } from '../reference-model.js';
import type { World } from '../world.js';
import { Command, nothing, type Told } from './command.js';

/** Copies are gone, those of the memory or those that the instances share. */
export class Flush extends Command {
  constructor(private readonly tier: 'memory' | 'shared') {
    super();
  }

  override check(model: Readonly<ReferenceModel>): boolean {
    return model.isCacheUp;
  }

  async act(_model: ReferenceModel, world: World): Promise<Told> {
    if (this.tier === 'memory') world.system.forget();
    else await world.system.flush();
    return nothing;
  }

  toString(): string {
    return `flush the ${this.tier} cache`;
  }
}

/** The server that the instances share accepts connections, and answers nothing. */
export class FreezeCache extends Command {
  override check(model: Readonly<ReferenceModel>): boolean {
    return model.isCacheUp;
  }

  async act(model: ReferenceModel, world: World): Promise<Told> {
    await world.system.freezeCache();
    model.isCacheUp = false;
    return nothing;
  }

  toString(): string {
    return 'freeze the shared cache';
  }
}

/** It goes on, with what it was sent meanwhile. What it could not be told to erase is erased again, as the error says. */
export class ThawCache extends Command {
  override check(model: Readonly<ReferenceModel>): boolean {
    return !model.isCacheUp;
  }

  async act(model: ReferenceModel, world: World): Promise<Told> {
    await world.system.thawCache();
    model.isCacheUp = true;
    for (const { target, record } of model.keys.values()) {
      if (record?.state === 'erased') await world.decide(target, 'erase');
    }
    return nothing;
  }

  toString(): string {
    return 'thaw the shared cache';
  }
}
