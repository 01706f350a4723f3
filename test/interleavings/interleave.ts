import { Actor } from './actor.js';
import type { Ground, Sight } from './ground.js';
import { violationsOf } from './invariants.js';
import { Player } from './player.js';
import { outcomeOf, INVALID, type Scenario } from './scenario.js';
import { Subject } from './subject.js';

/** No answer and no lock that explains it: something else is wrong. */
const STUCK_MS = 20_000;
/** How long a statement is given to answer before it is asked whether it waits for a lock. */
const ANSWER_MS = 4;

/** What there is to see before anybody has done anything. */
const NOTHING: Sight = { status: null, attempt: null, born: null, expired: null, effects: 0 };

/** Which sessions could not have had the next turn, after the turns that were had. */
export interface Standing {
  readonly schedule: string;
  readonly done: ReadonlySet<string>;
  readonly blocked: ReadonlySet<string>;
}

/** What one permutation came to. */
export interface Run {
  /** The turns that were had: without those of sessions that had come to their end. */
  readonly schedule: string;
  readonly standings: readonly Standing[];
  readonly outcome: string;
  readonly violations: readonly string[];
  /** What each session has sent. */
  readonly sent: Readonly<Record<string, readonly string[]>>;
  readonly conflicts: number;
}

/** Plays the parts of a scenario in the order of a permutation, on a fresh key. */
export async function interleave<Prepared>(
  ground: Ground,
  scenario: Scenario<Prepared>,
  permutation: string,
): Promise<Run> {
  const play = await Play.begin(ground, scenario);
  const isValid = await play.follow(permutation);
  await play.finish();
  return play.report(isValid);
}

class Play<Prepared> {
  readonly #subject = new Subject();
  readonly #cast: Record<string, Player> = {};
  readonly #sights: Sight[] = [];
  readonly #standings: Standing[] = [];
  #schedule = '';
  #changed: () => void = () => undefined;

  private constructor(
    private readonly ground: Ground,
    private readonly scenario: Scenario<Prepared>,
  ) {}

  static async begin<Prepared>(ground: Ground, scenario: Scenario<Prepared>): Promise<Play<Prepared>> {
    const play = new Play(ground, scenario);
    for (const [name, { grain = 'statement' }] of Object.entries(scenario.parts)) {
      const actor = new Actor(name, () => play.#changed());
      const connection = await ground.connection(name);
      play.#cast[name] = new Player(actor, play.#subject, ground, connection, grain);
    }
    const prepared = (await scenario.prepare?.(play.#cast, ground)) as Prepared;
    for (const [name, part] of Object.entries(scenario.parts)) {
      const player = play.#player(name);
      player.actor.sent.length = 0;
      player.actor.hasCommitted = false;
      player.actor.play(() => player.perform((self) => part.play(self, prepared)));
    }
    await play.#settle();
    if (scenario.prepare) play.#sights.push(await ground.look(play.#subject));
    return play;
  }

  /** Gives the turns in their order, until a session would have one that waits for a lock. */
  async follow(permutation: string): Promise<boolean> {
    for (const name of permutation) {
      this.#stand();
      const { actor } = this.#player(name);
      if (actor.state === 'done') continue;
      if (actor.state === 'running') return false;
      await this.#give(actor);
    }
    this.#stand();
    return true;
  }

  /** Lets everybody come to an end, one after another. */
  async finish(): Promise<void> {
    for (;;) {
      const actors = this.#actors();
      if (actors.every(({ state }) => state === 'done')) return;
      const next = actors.find(({ state }) => state === 'waiting');
      if (next) await this.#give(next, false);
      // All wait for one another: the database ends that, by and by.
      else await this.#nextChange(STUCK_MS);
    }
  }

  async report(isValid: boolean): Promise<Run> {
    const last = this.#sights.at(-1) ?? NOTHING;
    await this.ground.clear(this.#subject);
    const actors = this.#actors();
    const results = Object.fromEntries(actors.map(({ name, result }) => [name, result]));
    const record = last.status === null ? 'no record' : `${last.status}#${last.attempt}`;
    return {
      schedule: this.#schedule,
      standings: this.#standings,
      outcome: isValid ? outcomeOf(results, record, last.effects) : INVALID,
      violations: violationsOf(this.#sights, this.scenario.effects),
      sent: Object.fromEntries(actors.map(({ name, sent }) => [name, sent])),
      conflicts: actors.reduce((sum, { conflicts }) => sum + conflicts, 0),
    };
  }

  async #give(actor: Actor, isCounted = true): Promise<void> {
    if (isCounted) this.#schedule += actor.name;
    actor.go();
    await this.#settle();
    await this.#look();
  }

  /** Waits until each session waits for a turn, waits for a lock of another one, or has come to its end. */
  async #settle(): Promise<void> {
    const giveUpAt = performance.now() + STUCK_MS;
    const pids = Object.values(this.#cast).map(({ pid }) => pid);
    for (;;) {
      const running = this.#running();
      if (running.length === 0) return;
      if (await this.#nextChange(ANSWER_MS)) continue;
      const blocked = await this.ground.blocked(
        running.map(({ pid }) => pid),
        pids,
      );
      // Asked of those who were running, and answered while all of them still were.
      if (this.#running().length === running.length && blocked.length === running.length) return;
      if (performance.now() > giveUpAt) {
        const who = running.map(({ name, actor }) => `${name} after ${actor.sent.at(-1)}`);
        throw new Error(`${this.#schedule}: no answer, and no lock that it waits for: ${who.join('; ')}`);
      }
    }
  }

  /** Whether a session has changed its state within that time. */
  #nextChange(withinMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), withinMs);
      this.#changed = () => {
        clearTimeout(timer);
        resolve(true);
      };
    });
  }

  async #look(): Promise<void> {
    const actors = this.#actors().filter(({ hasCommitted }) => hasCommitted);
    if (actors.length === 0) return;
    for (const actor of actors) actor.hasCommitted = false;
    this.#sights.push(await this.ground.look(this.#subject));
  }

  #stand(): void {
    const named = (state: Actor['state']): Set<string> =>
      new Set(
        this.#actors()
          .filter((actor) => actor.state === state)
          .map(({ name }) => name),
      );
    this.#standings.push({ schedule: this.#schedule, done: named('done'), blocked: named('running') });
  }

  #actors(): Actor[] {
    return Object.values(this.#cast).map(({ actor }) => actor);
  }

  #running(): Player[] {
    return Object.values(this.#cast).filter(({ actor }) => actor.state === 'running');
  }

  #player(name: string): Player {
    const player = this.#cast[name];
    if (!player) throw new Error(`no session ${name}`);
    return player;
  }
}
