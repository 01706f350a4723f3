/** One step of the schema. Steps are append-only: a published one is never edited. */
export interface IdempotencyMigration {
  /** Sorts and identifies the step: `0001-records`. */
  readonly name: string;
  /** Statements for a table name as the `table` option has it. They run in one transaction. */
  up(table: string): readonly string[];
}
