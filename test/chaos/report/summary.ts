import type { Figures, Held, Percentiles } from './figures.js';

/** The figures of a run for the terminal, each with its unit. */
export function summaryOf(figures: Figures): string {
  const { bystander, held, residentBytesPerMinute: growth } = figures;
  return [
    ...Object.entries(figures.faults).map(counted),
    ...Object.entries(figures.outcomes).map(([name, count]) => counted([`answers: ${name}`, count])),
    `key freed after its owner's process is gone, transaction mode: ${times(figures.keyFreedMs)}`,
    `key freed after the signal that ends it: ${times(figures.keyFreedFromSignalMs)}`,
    `final answer elsewhere after it: ${times(figures.answeredElsewhereMs)}`,
    `PostgreSQL takes connections after its crash: ${times(figures.databaseRecoveryMs)}`,
    `99 % of what is answered without a crash, after that: ${times(figures.recoveryMs)}`,
    `bystander p99: ${bystander.baselineP99Ms} ms before, ${bystander.awayP99Ms} ms away from faults, ${bystander.faultsP99Ms} ms in ${bystander.calls} calls under faults (${bystander.ratio ?? '?'} times); ` +
      `with those that strike itself ${bystander.anyFaultP99Ms} ms`,
    `held before: ${heldIn(held.baseline)}`,
    `held at the end: ${heldIn(held.end)}`,
    `resident memory: ${growth === null ? 'unknown' : `${(growth / 1e6).toFixed(2)} MB a minute`} since the first fault`,
    `run: ${figures.seconds} s`,
  ].join('\n');
}

const counted = ([name, count]: readonly [string, number]): string => `${String(count).padStart(7)}  ${name}`;

function times({ count, p50, p99, max }: Percentiles): string {
  if (count === 0) return 'not seen';
  return `median ${p50} ms, p99 ${p99} ms, at most ${max} ms, ${count} times`;
}

function heldIn({ residentBytes, poolConnections, idleInTransaction, timers, expiredRecords }: Held): string {
  return (
    `${(residentBytes / 1e6).toFixed(0)} MB, ${poolConnections} connections, ${timers} timers, ` +
    `${idleInTransaction} idle in a transaction, ${expiredRecords} expired records`
  );
}
