import { deepStrictEqual } from 'node:assert/strict';
import type { AsyncCommand } from 'fast-check';
import type { ReferenceModel } from '../reference-model.js';
import type { Target } from '../words.js';
import type { World } from '../world.js';

/** What a command has come to, beside what is told by the tables. */
export interface Told {
  readonly answers: readonly unknown[];
  readonly expected: readonly unknown[];
}

/** Something that is done to the world and to the model: first effects and records must be equal, then the answers. */
export abstract class Command implements AsyncCommand<ReferenceModel, World> {
  /** Whether it can be done now. */
  check(_model: Readonly<ReferenceModel>): boolean {
    return true;
  }

  async run(model: ReferenceModel, world: World): Promise<void> {
    const { answers, expected } = await this.act(model, world);
    await world.compare(model);
    deepStrictEqual(answers, expected);
  }

  abstract act(model: ReferenceModel, world: World): Promise<Told>;
  abstract toString(): string;
}

export const told = (answers: readonly unknown[], expected: readonly unknown[]): Told => ({
  answers,
  expected,
});
export const nothing = told([], []);

/** How a target reads in the list of commands. */
export const nameOf = ({ user, key, mode }: Target): string => `${user}'s ${key} (${mode})`;
