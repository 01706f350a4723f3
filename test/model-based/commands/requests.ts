import { isDeepStrictEqual } from 'node:util';
import type { ReferenceModel } from '../reference-model.js';
import { type Ending, type Place, problem, type Seen, type Target } from '../words.js';
import type { World } from '../world.js';
import { Command, nameOf, told, type Told } from './command.js';

const otherThan = (place: Place): Place => (place === 'here' ? 'there' : 'here');

/** Whoever finds that out holds the record for that moment: another one who asks then is told that it is in flight. */
const EXHAUSTED = 'IDEMPOTENCY_ATTEMPTS_EXHAUSTED';

/** One request: the first of its key, a duplicate, or one with another payload. */
export class Request extends Command {
  constructor(
    private readonly target: Target,
    private readonly place: Place,
    private readonly amount: number,
    private readonly ending: Ending,
  ) {
    super();
  }

  async act(model: ReferenceModel, world: World): Promise<Told> {
    const { target, place, amount, ending } = this;
    const answer = await world.ask(target, { place, amount, ending });
    return told([answer], [model.request(target, amount, ending)]);
  }

  toString(): string {
    return `request ${this.place}: ${nameOf(this.target)}, amount ${this.amount}, to ${this.ending}`;
  }
}

/** The same request several times at once, to both instances: one is the first, and the others are refused or replays of it. */
export class Together extends Command {
  constructor(
    private readonly target: Target,
    private readonly count: number,
    private readonly amount: number,
    private readonly ending: 'answer' | 'refuse',
  ) {
    super();
  }

  async act(model: ReferenceModel, world: World): Promise<Told> {
    const { target, count, amount, ending } = this;
    const answers = await Promise.all(
      Array.from({ length: count }, (_, index) =>
        world.ask(target, { place: index % 2 === 0 ? 'here' : 'there', amount, ending }),
      ),
    );
    const first = model.request(target, amount, ending);
    const isFirst = (answer: Seen): boolean => isDeepStrictEqual(answer, first);
    const runs = first.replayed === 'false';
    const mayBeRefused = runs || first.code === EXHAUSTED;
    const others = [model.known(target, amount), ...(mayBeRefused ? [problem(409, 'KEY_IN_USE')] : [])];
    const isOther = (answer: Seen): boolean => others.some((other) => isDeepStrictEqual(answer, other));
    const strange = answers.filter((answer) => !isFirst(answer) && !isOther(answer));
    const firsts = answers.filter(isFirst).length;
    return told([runs ? firsts : firsts > 0, strange], [runs ? 1 : true, []]);
  }

  toString(): string {
    return `${this.count} at once: ${nameOf(this.target)}, amount ${this.amount}, to ${this.ending}`;
  }
}

/** While a request is in flight, duplicates of it are refused on both instances, other payloads too, and so is a decision. */
export class InFlight extends Command {
  constructor(
    private readonly target: Target,
    private readonly place: Place,
    private readonly amount: number,
    private readonly ending: Ending,
  ) {
    super();
  }

  override check(model: Readonly<ReferenceModel>): boolean {
    return model.known(this.target, this.amount) === undefined;
  }

  async act(model: ReferenceModel, world: World): Promise<Told> {
    const { target, place, amount, ending } = this;
    const held = await world.hold(target, { place, amount, ending }, 'start');
    const meanwhile: unknown[] = [];
    try {
      for (const at of [place, otherThan(place)]) {
        meanwhile.push(await world.post(target, { place: at, amount }));
        meanwhile.push(await world.post(target, { place: at, amount: amount + 1 }));
      }
      meanwhile.push(await world.decide(target, 'release'));
    } finally {
      held.goOn();
    }
    const answer = await held.answer;
    const [inUse, reused] = [problem(409, 'KEY_IN_USE'), problem(422, 'KEY_REUSED')];
    return told(
      [...meanwhile, answer],
      [inUse, reused, inUse, reused, 'RecordInFlightError', model.request(target, amount, ending)],
    );
  }

  toString(): string {
    return `duplicates in flight ${this.place}: ${nameOf(this.target)}, amount ${this.amount}, to ${this.ending}`;
  }
}
