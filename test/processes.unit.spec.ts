import { describe, expect, it } from 'vitest';
import { freePorts } from '../deploy/local/processes.js';

describe('free ports', () => {
  it('are all different, and none that the system gives to a connection or to listen(0)', async () => {
    const ports = await freePorts(200);

    expect(new Set(ports).size).toBe(200);
    expect(ports.filter((port) => port < 10_000 || port >= 32_768)).toEqual([]);
  });
});
