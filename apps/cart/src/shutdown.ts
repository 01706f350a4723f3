import type { Server } from 'node:http';
import type { INestApplication } from '@nestjs/common';

/** How long requests with a key that are in flight may take to finish. */
export const DRAIN_MS = 6_000;
/** How long all requests may. */
const CUT_MS = 7_000;
/** How long closing may take after the last connection was cut. */
const CLOSE_MS = 1_500;

/**
 * Calls back on the first of the signals that mean "stop". Repeats are ignored: on Ctrl-C, npm passes on the signal
 * that the terminal has sent to this process already.
 */
export function onStopSignal(stop: () => Promise<void>): void {
  let stopping = false;
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      if (stopping) return;
      stopping = true;
      void stop();
    });
  }
}

/** Counts the requests that a server is answering, from now on. */
export function countRequests(server: Server): () => number {
  let requests = 0;
  server.prependListener('request', (_request, response) => {
    requests++;
    response.once('close', () => requests--);
  });
  return () => requests;
}

/**
 * Stops accepting, lets requests finish, and closes the app, within about {@link CUT_MS} + {@link CLOSE_MS}.
 *
 * @param requests how many requests are in flight
 */
export async function drain(app: INestApplication, requests: () => number): Promise<void> {
  const server: Server = app.getHttpServer();
  const closed = app.close();
  const idle = setInterval(() => {
    // A connection that was busy when closing began stays open for its client's next request, and one that a browser
    // has opened in advance never counts as idle.
    if (requests() === 0) server.closeAllConnections();
    else server.closeIdleConnections();
  }, 50);
  try {
    if (await within(closed, CUT_MS)) return;
    server.closeAllConnections();
    await within(closed, CLOSE_MS);
  } finally {
    clearInterval(idle);
  }
}

/** Whether it settled in time. */
async function within(work: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), timeoutMs);
  });
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
