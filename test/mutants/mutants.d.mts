export interface Mutant {
  readonly name: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  readonly spec: string;
  readonly test: string;
}

export const MUTANTS: readonly Mutant[];
