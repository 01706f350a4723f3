import type { ReferenceModel } from '../reference-model.js';
import type { Target } from '../words.js';
import type { World } from '../world.js';
import { Command, nameOf, nothing, told, type Told } from './command.js';

/** The time of a record is over. */
export class Expire extends Command {
  constructor(private readonly target: Target) {
    super();
  }

  /** A frozen cache would keep its copies. */
  override check(model: Readonly<ReferenceModel>): boolean {
    return model.isCacheUp && model.record(this.target) !== undefined;
  }

  async act(model: ReferenceModel, world: World): Promise<Told> {
    await world.expire(this.target);
    model.expire(this.target);
    return nothing;
  }

  toString(): string {
    return `expire: ${nameOf(this.target)}`;
  }
}

/** An answer is replayed a moment before its time is over, so that there are copies of it, and asked for again afterwards. */
export class Outlive extends Command {
  constructor(private readonly target: Target) {
    super();
  }

  override check(model: Readonly<ReferenceModel>): boolean {
    const record = model.record(this.target);
    return model.isCacheUp && (record?.state === 'completed' || record?.state === 'error');
  }

  async act(model: ReferenceModel, world: World): Promise<Told> {
    const { target } = this;
    const amount = model.record(target)?.amount ?? 1;
    const sending = { place: 'here', amount } as const;
    const until = await world.shorten(target);
    const before = await world.ask(target, sending);
    // On a slow machine it may have come too late.
    if ((await world.endsAt(target)) !== until) model.expire(target);
    const expected = [model.request(target, amount, 'answer')];
    if (expected[0]?.replayed !== 'true') return told([before], expected);
    await world.isOver(target);
    model.expire(target);
    const after = await world.ask(target, sending);
    return told([before, after], [...expected, model.request(target, amount, 'answer')]);
  }

  toString(): string {
    return `replay, and outlive the record: ${nameOf(this.target)}`;
  }
}

/** What has expired is deleted. */
export class Reap extends Command {
  async act(model: ReferenceModel, world: World): Promise<Told> {
    await world.system.reap();
    model.reap();
    return nothing;
  }

  toString(): string {
    return 'reap';
  }
}
