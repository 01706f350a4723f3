export { IdempotencyModule } from './idempotency.module.js';
export type {
  AttemptMode,
  CompleterOptions,
  DataSourceResolver,
  FingerprintResolver,
  IdempotencyModuleOptions,
  IdempotentOptions,
  KeyFormat,
  MigrationMode,
  OnAbandoned,
  ReplayCacheOptions,
  RestoreRequest,
  ScopeResolver,
  StoreIf,
} from './idempotency.options.js';
export type { CachedOutcome, LocalCache } from './cache/local-cache.js';
export type { SharedCache, SharedCacheWrite } from './cache/shared-cache.js';
export type { Duration } from './duration.js';
export type { IdempotentRequest } from './http/request.js';

export { Idempotent } from './decorators/idempotent.decorator.js';
export { CurrentAttempt } from './decorators/current-attempt.decorator.js';
export type { Attempt } from './transaction/attempt.js';
export type { Journaled, StepOptions } from './transaction/journaled.js';
export { outsideAttempt } from './transaction/attempt-context.js';
export {
  AttemptSettledError,
  type EndOfAccess,
  InterleavedTransactionError,
  LeaseModeOnlyError,
  RepeatedHandlerError,
  TransactionControlError,
  UnfinishedWorkError,
} from './transaction/attempt-settled.error.js';
export {
  JournaledError,
  LeaseLostError,
  PhaseOutcomeUnknownError,
  StepNotJournaledError,
  StepOrderError,
} from './lease/lease.errors.js';

export { IdempotencyEvents, idempotencyChannel } from './events/idempotency-events.js';
export type { IdempotencyEvent, IdempotencyEventType, ReplaySource } from './events/idempotency-event.js';

export { IdempotencyAdmin } from './admin/idempotency.admin.js';
export type { Decision, ReleaseDecision } from './admin/decision.js';
export type { GivenAnswer } from './admin/given-answer.js';
export type { RecordFilter, RecordPage } from './admin/record-filter.js';
export type { RecordReference } from './admin/record-reference.js';
export {
  AdminNotBoundError,
  CopyNotErasedError,
  DecisionUnknownError,
  RecordInFlightError,
  RecordNotFoundError,
  RecordStateError,
} from './admin/admin.errors.js';
export type {
  DecisionAction,
  JournaledEntry,
  JournaledResult,
  RecordDetails,
  RecordedDecision,
  RecordedResponse,
  RecordState,
  RecordSummary,
} from './store/record-details.js';

export { IDEMPOTENCY_STATUS, type IdempotencyErrorCode } from './errors/idempotency-error-code.js';
export { IdempotencyProblem, type IdempotencyProblemBody } from './errors/idempotency.problem.js';
export { DatabaseNotPreparedError, DataSourceUnresolvedError } from './databases/data-source.errors.js';
export { IdempotencyConfigurationError } from './errors/configuration.error.js';

export { IdempotencyRecordEntity, type IdempotencyRecord } from './store/idempotency-record.entity.js';
export { migrationSql } from './store/migrations/migrator.js';
