export interface Edit {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export interface Exhibit {
  readonly name: string;
  readonly peers: string;
  readonly seen: string;
  readonly edits: readonly Edit[];
  readonly spec: string;
}

export const EXHIBITS: readonly Exhibit[];
