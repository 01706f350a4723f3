import type { Evidence } from './evidence.js';
import type { CheckOptions } from './options.js';
import type { PromiseName } from './verdict.js';
import type { Windows } from './windows.js';

/** A violation of the judge's promise by the key that it was asked about. */
export interface Finding {
  readonly calls: readonly number[];
  readonly message: string;
}

/** What is known when the whole history has been read. */
export interface RunFacts {
  /** When the last fault was over; 0 without any. */
  readonly faultsOverMs: number;
  /** Operations whose routes leave what an attempt may have done to a person. */
  readonly leftToPerson: ReadonlySet<string>;
  /** When a key that has its outcome may still be said to be in use: see `inUseFaults`. */
  readonly inUse: Windows;
}

/** Holds one key against one promise. */
export interface Judge {
  readonly promise: PromiseName;
  /** `'untold'`: the history says nothing of this promise for this key. */
  judge(evidence: Evidence, options: CheckOptions, facts: RunFacts): readonly Finding[] | 'untold';
}

export const KEPT: readonly Finding[] = [];

export const finding = (message: string, calls: readonly number[] = []): readonly Finding[] => [
  { message, calls },
];
