import { setTimeout as delay } from 'node:timers/promises';
import {
  type BeforeApplicationShutdown,
  Inject,
  Injectable,
  Logger,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { ConfirmationQueue } from './confirmation.queue.js';
import { ConfirmationSender } from './confirmation.sender.js';
import { CONFIRMATIONS_OPTIONS, type ConfirmationsOptions } from './confirmations.options.js';

/** How long to wait before an empty queue is looked at again. */
const POLL_MS = 500;

/**
 * Sends what is in the queue, one after another. A loop of our own in place of pg-boss's `work()`, which leaves the
 * promise that marks a job done alone: a database that is away at that moment would end the process.
 */
@Injectable()
export class ConfirmationsWorker implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #logger = new Logger(ConfirmationsWorker.name);
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;

  constructor(
    private readonly queue: ConfirmationQueue,
    private readonly sender: ConfirmationSender,
    @Inject(CONFIRMATIONS_OPTIONS) private readonly options: ConfirmationsOptions,
  ) {}

  onApplicationBootstrap(): void {
    if (this.options.enabled) this.#running = this.#run(this.#stopping.signal);
  }

  /** Lets the job at hand finish and takes no other. */
  async beforeApplicationShutdown(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (await this.#sendNext()) continue;
      // Rejects when it is cut short, which is what ends the loop.
      await delay(POLL_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Whether there was a job and it is done. Never rejects: a job that is not done comes again. */
  async #sendNext(): Promise<boolean> {
    try {
      const job = await this.queue.next();
      if (!job) return false;
      try {
        await this.sender.send(job.orderId);
      } catch (error) {
        this.#logger.error(`order ${job.orderId} is not confirmed yet`, error);
        await this.queue.failed(job, error);
        return false;
      }
      await this.queue.done(job);
      return true;
    } catch (error) {
      this.#logger.error('the queue of confirmations does not answer', error);
      return false;
    }
  }
}
