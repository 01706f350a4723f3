import type { HistoryBuilder } from './history-builder.js';
import type { CheckOptions } from './options.js';
import type { PromiseName } from './verdict.js';

/** A history that breaks one promise and no other, and how the checker says so. */
export interface BadHistory {
  /** What is in it, behind "finds". */
  readonly finds: string;
  readonly promise: PromiseName;
  readonly message: string;
  readonly history: HistoryBuilder;
  readonly options?: Partial<CheckOptions>;
}
