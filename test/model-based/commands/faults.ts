import type { ReferenceModel } from '../reference-model.js';
import { type Place, problem, type Seen, type Target } from '../words.js';
import type { World } from '../world.js';
import { Command, nameOf, told, type Told } from './command.js';

/** The backend of an attempt is terminated while its handler is in the transaction: its process gives the key back. */
export class Terminate extends Command {
  constructor(
    private readonly target: Target,
    private readonly place: Place,
    private readonly amount: number,
  ) {
    super();
  }

  /** In lease mode the handler is in a transaction as long as its phase is not done. */
  override check(model: Readonly<ReferenceModel>): boolean {
    const { target, amount } = this;
    return model.known(target, amount) === undefined && model.record(target)?.reserved === undefined;
  }

  async act(model: ReferenceModel, world: World): Promise<Told> {
    const { target, place, amount } = this;
    const held = await world.hold(target, { place, amount }, 'inside');
    try {
      await world.terminate(held.backend);
    } finally {
      held.goOn();
    }
    const answer = await held.answer;
    await world.system.quiet();
    return told([answer], [model.request(target, amount, 'lost')]);
  }

  toString(): string {
    return `terminate the backend ${this.place}: ${nameOf(this.target)}, amount ${this.amount}`;
  }
}

/**
 * Attempts whose database cannot be reached any more, so that their keys cannot be given back: they are abandoned, as those
 * of a dead process are, and counted.
 */
export class Abandon extends Command {
  constructor(
    private readonly target: Target,
    private readonly times: number,
    private readonly amount: number,
  ) {
    super();
  }

  override check(model: Readonly<ReferenceModel>): boolean {
    return this.target.mode === 'transaction' && model.known(this.target, this.amount) === undefined;
  }

  async act(model: ReferenceModel, world: World): Promise<Told> {
    const { target, times, amount } = this;
    const answers: Seen[] = [];
    const expected: Seen[] = [];
    for (let time = 0; time < times && !model.known(target, amount); time++) {
      const held = await world.hold(target, { place: 'here', amount }, 'inside');
      try {
        answers.push(await world.system.cutDatabase(() => held.answer));
      } finally {
        held.goOn();
      }
      await world.system.quiet();
      expected.push(model.request(target, amount, 'dead'));
    }
    return told(answers, expected);
  }

  toString(): string {
    return `abandon ${this.times} attempts: ${nameOf(this.target)}, amount ${this.amount}`;
  }
}

/**
 * An attempt of lease mode stands still until its lease is over and another instance has taken its record, and goes on while
 * that one runs, or when it is done: it changes nothing, and answers from the record. It comes to its phase first: a call to
 * another system, which nobody can stop, it would make.
 */
export class Overtake extends Command {
  constructor(
    private readonly target: Target,
    private readonly amount: number,
    private readonly goesOn: 'meanwhile' | 'afterwards',
  ) {
    super();
  }

  override check(model: Readonly<ReferenceModel>): boolean {
    const { target, amount } = this;
    const isNew = model.record(target)?.reserved === undefined;
    return target.mode === 'lease' && isNew && model.known(target, amount) === undefined;
  }

  async act(model: ReferenceModel, world: World): Promise<Told> {
    const { target, amount, goesOn } = this;
    const late = await world.hold(target, { place: 'here', amount }, 'start');
    let answers: Seen[];
    try {
      await world.endLease(target);
      const next = await world.hold(target, { place: 'there', amount }, 'start');
      try {
        const order = goesOn === 'meanwhile' ? [late, next] : [next, late];
        answers = [];
        for (const held of order) {
          held.goOn();
          answers.push(await held.answer);
        }
      } finally {
        next.goOn();
      }
    } finally {
      late.goOn();
    }
    // The late attempt has run its handler, and nothing of it counts.
    model.at(target).runs++;
    const first = model.request(target, amount, 'answer');
    const expected =
      goesOn === 'meanwhile' ? [problem(409, 'KEY_IN_USE'), first] : [first, model.known(target, amount)];
    return told(answers, expected);
  }

  toString(): string {
    return `overtake, and the late one goes on ${this.goesOn}: ${nameOf(this.target)}, amount ${this.amount}`;
  }
}
