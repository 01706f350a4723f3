import { Injectable } from '@nestjs/common';

/** Handlers that stay at their work until they are told to end, so that their duplicates are in flight. */
@Injectable()
export class HeldRequests {
  #held: (() => void)[] = [];

  get count(): number {
    return this.#held.length;
  }

  hold(): Promise<void> {
    return new Promise((resolve) => this.#held.push(resolve));
  }

  release(): void {
    for (const end of this.#held) end();
    this.#held = [];
  }
}
