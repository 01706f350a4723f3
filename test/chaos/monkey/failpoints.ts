import type { Failpoint } from 'nestjs-pg-idempotency/testing';
import type { Route } from '../clients/subject.js';

/** Each failpoint, with the routes whose requests come to it. */
export const FAILPOINTS: Readonly<Record<Failpoint, readonly Route[]>> = {
  'before-claim': ['transaction', 'lease-retry'],
  'after-claim': ['transaction', 'lease-retry'],
  'handler-returned': ['transaction', 'lease-retry'],
  'record-written': ['transaction'],
  'commit-sent': ['transaction', 'lease-retry'],
  committed: ['transaction', 'lease-retry'],
  'step-begins': ['lease-retry', 'lease-fail'],
  'step-done': ['lease-retry', 'lease-fail'],
  'step-journaled': ['lease-retry', 'lease-fail'],
  'phase-begins': ['lease-retry', 'lease-fail'],
  'phase-done': ['lease-retry', 'lease-fail'],
  'phase-commit-sent': ['lease-retry', 'lease-fail'],
  'phase-committed': ['lease-retry', 'lease-fail'],
  'heartbeat-due': ['lease-retry'],
  'heartbeat-done': ['lease-retry'],
};

export const FAILPOINT_NAMES = Object.keys(FAILPOINTS) as readonly Failpoint[];

/** Points that an attempt comes to in transaction mode after it has begun. */
export const OWNED: readonly Failpoint[] = [
  'after-claim',
  'handler-returned',
  'record-written',
  'commit-sent',
  'committed',
];

/** Of these, where the row is locked by nothing but the owner's transaction: its death frees the key, and nothing else. */
export const HOLDS_ROW: readonly Failpoint[] = ['after-claim', 'handler-returned', 'record-written'];

/** An attempt comes to them only when its handler takes longer than a third of its lease. */
export const LINGERS: readonly Failpoint[] = ['heartbeat-due', 'heartbeat-done'];
