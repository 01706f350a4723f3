import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const CHILD = fileURLToPath(new URL('./provider-child.mjs', import.meta.url));

/**
 * Starts the payment provider as a child of this process and resolves with its address; ends this process when it does not
 * start. It lives as long as this process, however that ends.
 */
export function startProviderBeside() {
  // Out of the terminal's group: Ctrl-C is for the app, whose last requests still need the provider.
  const child = fork(CHILD, { detached: true, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
  return new Promise((resolve) => {
    let output = '';
    let isUp = false;
    child.stderr.on('data', (chunk) => process.stderr.write(chunk));
    child.stdout.on('data', (chunk) => {
      if (isUp) return;
      output += chunk;
      const url = /listening on (http:\S+)\n/.exec(output)?.[1];
      if (url === undefined) return;
      isUp = true;
      // It is no reason for this process to stay.
      for (const handle of [child, child.channel, child.stdout, child.stderr]) handle?.unref();
      resolve(url);
    });
    child.on('exit', (code, signal) => {
      if (isUp) {
        console.error(
          `The payment provider ended (${signal ?? code}): checkouts answer 502 until the next start.`,
        );
        return;
      }
      console.error(
        'The payment provider does not start; set PROVIDER_PORT, or PAYMENT_PROVIDER_URL to one that runs.',
      );
      process.exit(1);
    });
  });
}
