import { describe, expect, it } from 'vitest';
import { ConfigError, listenFailure, readConfig } from './config.js';

const messageOf = (env: NodeJS.ProcessEnv): string => {
  try {
    readConfig(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  throw new Error('accepted');
};

describe('readConfig', () => {
  it('needs nothing', () => {
    expect(readConfig({})).toEqual({ port: 3001, host: '127.0.0.1', ledgerFile: undefined });
  });

  it('takes an empty variable for an absent one', () => {
    expect(readConfig({ PROVIDER_PORT: '', PROVIDER_HOST: ' ', PROVIDER_LEDGER: '' })).toEqual(
      readConfig({}),
    );
  });

  it('reads every variable', () => {
    const env = { PROVIDER_PORT: '0', PROVIDER_HOST: '::1', PROVIDER_LEDGER: '/srv/charges.jsonl' };
    expect(readConfig(env)).toEqual({ port: 0, host: '::1', ledgerFile: '/srv/charges.jsonl' });
  });

  it.each([
    ['PROVIDER_PORT', 'http'],
    ['PROVIDER_PORT', '65536'],
    ['PROVIDER_PORT', '-1'],
    ['PROVIDER_PORT', '30.5'],
    ['PROVIDER_HOST', 'http://localhost'],
  ])('refuses %s=%s, naming the variable, the value and the fix', (name, value) => {
    expect(messageOf({ [name]: value })).toMatch(/^\w+ is "[^"]+": use .+\.$/);
    expect(messageOf({ [name]: value })).toContain(`${name} is "${value}": use `);
  });

  it('names all bad variables at once', () => {
    const message = messageOf({ PROVIDER_PORT: 'x', PROVIDER_HOST: '/' });
    expect(message).toContain('PROVIDER_PORT');
    expect(message).toContain('PROVIDER_HOST');
  });
});

describe('listenFailure', () => {
  const config = { port: 3001, host: 'far.example', ledgerFile: undefined };
  const failure = (code: string): unknown => listenFailure(Object.assign(new Error(code), { code }), config);

  it.each([
    ['EADDRINUSE', /^PROVIDER_PORT is 3001: that port of far\.example is taken\. .*PROVIDER_PORT=3002/],
    ['EACCES', /^PROVIDER_PORT is 3001: this user may not listen there\. Use /],
    ['EADDRNOTAVAIL', /^PROVIDER_HOST is "far\.example": this machine has no such address\. Use /],
    ['ENOTFOUND', /^PROVIDER_HOST is "far\.example": this machine has no such address\. Use /],
  ])('tells what to do about %s', (code, message) => {
    expect(failure(code)).toBeInstanceOf(ConfigError);
    expect((failure(code) as Error).message).toMatch(message);
  });

  it('leaves what it does not know alone', () => {
    const error = new Error('unheard of');
    expect(listenFailure(error, config)).toBe(error);
  });
});
