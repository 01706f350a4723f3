import { describe, expect, it } from 'vitest';
import { InFlightRegistry, type SharedOutcome } from './in-flight.registry.js';

const key = Buffer.from('key hash');
const fingerprint = Buffer.from('fingerprint');
const none: SharedOutcome = { kind: 'none' };
const final: SharedOutcome = {
  kind: 'final',
  raised: false,
  response: { status: 201, headers: {}, body: Buffer.from('{}') },
};

describe('InFlightRegistry', () => {
  it('finds an attempt by the value of its key until it is told', async () => {
    const registry = new InFlightRegistry();
    const tell = registry.add(key, fingerprint);
    const found = registry.find(Buffer.from('key hash'));
    expect(found?.fingerprint.equals(fingerprint)).toBe(true);
    expect(registry.find(Buffer.from('another'))).toBeUndefined();
    tell(final);
    expect(registry.find(key)).toBeUndefined();
    await expect(found?.outcome).resolves.toBe(final);
    expect(registry.size).toBe(0);
  });

  it('tells one outcome to everybody who asked', async () => {
    const registry = new InFlightRegistry();
    const tell = registry.add(key, fingerprint);
    const asked = Array.from({ length: 3 }, async () => registry.find(key)?.outcome);
    tell(none);
    expect(await Promise.all(asked)).toEqual([none, none, none]);
  });

  it('is left empty by attempts that are told twice', () => {
    const registry = new InFlightRegistry();
    const tell = registry.add(key, fingerprint);
    tell(none);
    tell(final);
    expect(registry.size).toBe(0);
  });

  it('keeps a later attempt of the same key when an earlier one is told', async () => {
    // The lock of a lost attempt is free before its process has noticed.
    const registry = new InFlightRegistry();
    const tellFirst = registry.add(key, fingerprint);
    const tellSecond = registry.add(key, Buffer.from('other'));
    const second = registry.find(key);
    tellFirst(none);
    expect(registry.find(key)).toBe(second);
    tellSecond(final);
    await expect(second?.outcome).resolves.toBe(final);
    expect(registry.size).toBe(0);
  });
});
