import { describe } from './describe.js';

/** What is wrong with a setting, in the three parts that its reader needs. */
export interface ConfigurationFault {
  /** Name of the option, as it is written in the code: `maxAttempts`, `@Idempotent({ ttl }) on CartController.add`. */
  readonly option: string;
  /** The value that was received. */
  readonly received: unknown;
  /** What to write instead, as a whole sentence. */
  readonly fix: string;
}

/**
 * A setting that the application cannot safely start with. Thrown at start, never while a request is served.
 * The message names the option, the value received and the fix.
 */
export class IdempotencyConfigurationError extends Error {
  readonly option: string;

  constructor({ option, received, fix }: ConfigurationFault) {
    super(`${option}: received ${describe(received)}. ${fix}`);
    this.name = 'IdempotencyConfigurationError';
    this.option = option;
  }
}
