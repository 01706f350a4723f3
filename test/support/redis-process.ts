import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { RedisCacheOptions } from 'nestjs-pg-idempotency/redis';

const CACHE = new URL('../../libs/idempotency/dist/cache/redis/index.js', import.meta.url).href;
const ROOT = fileURLToPath(new URL('../..', import.meta.url));

const SCRIPT = `
  const { redisCache } = await import(process.env.CACHE);
  const cache = redisCache(JSON.parse(process.env.OPTIONS));
  const state = process.env.STATE;
  const ask = () => cache.get('test:' + Math.random());
  if (state !== 'unused') cache.start();
  if (state === 'up' || state === 'frozen') {
    while (!(await ask().then(() => true, () => false))) await new Promise((next) => setTimeout(next, 5));
  }
  if (state === 'away') {
    for (let round = 0; round < 60; round += 1) {
      await ask().catch(() => undefined);
      await new Promise((next) => setTimeout(next, 5));
    }
  }
  process.send('ready');
  process.once('message', () => {
    process.disconnect();
    for (let count = 0; count < 50; count += 1) ask().catch(() => undefined);
    setImmediate(async () => {
      await cache.close();
      const closedAt = performance.now();
      process.on('exit', () => console.log('closed ' + Math.ceil(performance.now() - closedAt)));
    });
  });
`;

/** How, and in how many milliseconds, a process ends that does nothing any more after it has closed its cache. */
export async function exitAfter(
  options: RedisCacheOptions,
  state: 'frozen' | 'up' | 'away' | 'unused',
  freeze: () => Promise<unknown>,
): Promise<{ code: number | null; tookMs: number }> {
  const child = spawn(process.execPath, ['--input-type=module', '--eval', SCRIPT], {
    cwd: ROOT,
    env: { ...process.env, CACHE, OPTIONS: JSON.stringify(options), STATE: state },
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  });
  try {
    let output = '';
    child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
    await once(child, 'message');
    if (state === 'frozen') await freeze();
    const ended = once(child, 'close', { signal: AbortSignal.timeout(20_000) });
    child.send('close');
    const [code] = (await ended) as [number | null];
    return { code, tookMs: Number(/closed (\d+)/.exec(output)?.[1]) };
  } finally {
    child.kill('SIGKILL');
  }
}
