import { Inject, Injectable } from '@nestjs/common';
import type { ProviderCall } from '../history/event.js';

export const PROVIDER_URL = Symbol('PROVIDER_URL');

export type ProviderRequest = Omit<ProviderCall, 'kind' | 'atMs'>;

const TIMEOUT_MS = 1_000;

/** Charges at the payment provider, which charges once for a downstream key. */
@Injectable()
export class ProviderClient {
  constructor(@Inject(PROVIDER_URL) private readonly url: string) {}

  async charge(request: ProviderRequest, signal: AbortSignal): Promise<{ chargeId: string }> {
    const response = await fetch(this.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(request),
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    if (!response.ok) throw new Error(`the provider answered ${response.status}`);
    return (await response.json()) as { chargeId: string };
  }
}
