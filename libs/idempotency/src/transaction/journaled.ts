/** What a step or phase gives back: its result after it went through JSON, as the journal keeps it. */
export type Journaled<T> = T extends Uint8Array
  ? Buffer
  : T extends string | number | boolean | null | undefined
    ? T
    : T extends bigint | symbol | ((...args: never[]) => unknown)
      ? never
      : T extends { toJSON(): infer Json }
        ? Journaled<Json>
        : T extends readonly unknown[]
          ? { [Index in keyof T]: Journaled<T[Index]> }
          : T extends object
            ? { [Name in keyof T]: Journaled<T[Name]> }
            : unknown;

/** How a step is journaled. */
export interface StepOptions {
  /**
   * Says of an error of the step that it is its result: it is journaled, and every later attempt is thrown it again
   * instead of running the step. For a decision of the other system, as a declined card. An `HttpException` comes back with
   * its status and body, any other error with its name and message, the first time too.
   * @default () => false
   */
  readonly isFinal?: (error: unknown) => boolean;
}
