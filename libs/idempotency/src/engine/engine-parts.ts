import type { DataSource } from 'typeorm';
import type { IdempotencyEvent } from '../events/idempotency-event.js';
import type { AttemptIdentity } from '../store/identity.js';
import type { AfterCommit } from '../transaction/after-commit.js';
import type { MakeRunner } from '../transaction/join-data-source.js';
import { type Answered, outcomeOf } from './answered.js';
import type { EngineOutcome } from './outcomes.js';
import type { EngineSettings } from './policy.js';
import type { Turns } from './take-turn.js';

/** What the engines of both modes work with. */
export interface EngineParts {
  readonly dataSource: DataSource;
  readonly makeRunner: MakeRunner;
  readonly settings: EngineSettings;
  readonly turns: Turns;
  /** Runs what is to run after a commit; an error in it is nobody's answer. */
  readonly afterCommit: (callbacks: AfterCommit) => void;
  readonly emit: (event: IdempotencyEvent) => void;
}

/** How events name a record. */
export function named({ keyHash, operation }: AttemptIdentity): { keyHash: string; operation: string } {
  return { keyHash: keyHash.toString('hex'), operation };
}

/** The outcome of a request that another one's record answers; a replay is told as an event. */
export function answerFrom(
  answered: Answered,
  identity: AttemptIdentity,
  { emit }: Pick<EngineParts, 'emit'>,
): EngineOutcome {
  if (answered.kind === 'replay') {
    const { source, response } = answered;
    emit({ type: 'replayed', status: response.status, source, ...named(identity) });
  }
  return outcomeOf(answered);
}
