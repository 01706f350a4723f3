import pg from 'pg';
import { QueryFailedError } from 'typeorm';
import { describe, expect, it } from 'vitest';
import { ConnectionLostError } from './connection-lost.error.js';
import { CommitRefusedError, isRefusal, isTransactionConflict, sqlStateOf } from './sql-state.js';

/** An error as node-postgres raises it for a message of the server. */
function databaseError(code: string, severity = 'ERROR'): pg.DatabaseError {
  const error = new pg.DatabaseError('from the server', 16, 'error');
  return Object.assign(error, { code, severity });
}
const throughTypeOrm = (error: Error): QueryFailedError => new QueryFailedError('INSERT …', [], error);
/** An error of Node's, for instance of a socket. */
const systemError = (code: string): Error => Object.assign(new Error(code), { code });

describe('sqlStateOf', () => {
  it.each(['23505', '40001', '40P01', '55P03', '57P01', 'P0001', '0A000', 'XX000'])('reads %s', (state) => {
    expect(sqlStateOf(databaseError(state))).toBe(state);
    expect(sqlStateOf(throughTypeOrm(databaseError(state)))).toBe(state);
  });

  it.each([
    systemError('ECONNRESET'),
    // five capitals, as a SQLSTATE may have
    systemError('EPIPE'),
    systemError('ERR_SOCKET_CLOSED'),
    new Error('40001'),
    { code: 40001 },
    { code: '4000' },
    { code: '400011' },
    '40001',
    null,
    undefined,
  ])('reads nothing from %o', (error) => {
    expect(sqlStateOf(error)).toBeUndefined();
  });
});

describe('isTransactionConflict', () => {
  it.each(['40001', '40P01', '55P03'])('takes %s for lost against another transaction', (state) => {
    expect(isTransactionConflict(databaseError(state))).toBe(true);
    expect(isTransactionConflict(throughTypeOrm(databaseError(state)))).toBe(true);
  });

  it.each(['23505', '40002', '25P02', '57014', '57P01', '53300'])(
    'takes %s for nothing of the kind',
    (state) => {
      expect(isTransactionConflict(databaseError(state))).toBe(false);
    },
  );

  it('takes the loss of a connection for nothing of the kind', () => {
    expect(isTransactionConflict(new ConnectionLostError('gone'))).toBe(false);
    expect(isTransactionConflict(systemError('ECONNRESET'))).toBe(false);
  });
});

describe('isRefusal', () => {
  it('believes PostgreSQL when it says that it did not commit', () => {
    expect(isRefusal(databaseError('23503'))).toBe(true);
    expect(isRefusal(throughTypeOrm(databaseError('40001')))).toBe(true);
    expect(isRefusal(new CommitRefusedError('ROLLBACK'))).toBe(true);
  });

  it.each([
    ['a terminated backend', databaseError('57P01', 'FATAL')],
    ['a server that goes down', databaseError('57P02', 'FATAL')],
    ['a server that crashes', databaseError('XX000', 'PANIC')],
    ['a transaction_timeout', databaseError('25P04', 'FATAL')],
    ['a broken socket', systemError('ECONNRESET')],
    ['EPIPE, which is five capitals as a SQLSTATE is', systemError('EPIPE')],
    ['a connection given up', new ConnectionLostError('gone')],
    ['an error of unknown kind', new Error('Connection terminated')],
    ['nothing', undefined],
    ['null', null],
  ])('does not take %s for an answer', (_name, error) => {
    // The answer to COMMIT is then unknown, and is asked after; a guess would run the handler twice or lose an effect.
    expect(isRefusal(error)).toBe(false);
  });
});
