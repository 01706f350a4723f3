import type { ReferenceModel } from '../reference-model.js';
import type { Action, Target } from '../words.js';
import type { World } from '../world.js';
import { Command, nameOf, told, type Told } from './command.js';

/** A person decides about a record, rightly or wrongly. */
export class Decide extends Command {
  constructor(
    private readonly target: Target,
    private readonly action: Action,
  ) {
    super();
  }

  /** Expired and not reaped yet, it could still be decided: that is not modelled. */
  override check(model: Readonly<ReferenceModel>): boolean {
    return !model.at(this.target).isExpired;
  }

  async act(model: ReferenceModel, world: World): Promise<Told> {
    const { target, action } = this;
    return told([await world.decide(target, action)], [model.decide(target, action)]);
  }

  toString(): string {
    return `${this.action} by a person: ${nameOf(this.target)}`;
  }
}
