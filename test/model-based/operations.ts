import { countFailure, countOperation } from '../support/operations-log.js';
import type { Command } from './commands/command.js';

/** Counts what is done to a world, by the kind of command. */
export class Operations {
  readonly #kinds = new Map<string, number>();
  #untilFailure: number | undefined;

  get count(): number {
    return [...this.#kinds.values()].reduce((sum, count) => sum + count, 0);
  }

  /** How many were done until the first failure, that one included; those done to make it smaller do not count. */
  get untilFailure(): number {
    return this.#untilFailure ?? this.count;
  }

  /** The same command, counted when it is run. */
  counted(command: Command): Command {
    const { run } = command;
    const kind = command.constructor.name;
    command.run = async (model, world) => {
      this.#kinds.set(kind, (this.#kinds.get(kind) ?? 0) + 1);
      countOperation();
      await run.call(command, model, world);
    };
    return command;
  }

  failed(): void {
    this.#untilFailure ??= this.count;
    countFailure();
  }

  toString(): string {
    const kinds = [...this.#kinds].toSorted(([, one], [, other]) => other - one);
    return `${this.count} operations (${kinds.map(([kind, count]) => `${kind} ${count}`).join(', ')})`;
  }
}
