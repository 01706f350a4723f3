import { BadGatewayException, GatewayTimeoutException, Inject, Injectable } from '@nestjs/common';

/** Where the payment provider is, and how long it may take. */
export interface PaymentProviderOptions {
  readonly url: string;
  readonly timeoutMs: number;
}

export const PAYMENT_PROVIDER_OPTIONS = Symbol('PAYMENT_PROVIDER_OPTIONS');

/** What to charge. */
export interface ChargeRequest {
  /** The same for every try of one payment: the provider charges once for it. */
  readonly key: string;
  /** In cents. */
  readonly amount: number;
  /** Gives the call up. The charge may have been made all the same. */
  readonly signal: AbortSignal;
}

/** What came of it, for good. */
export type ChargeOutcome =
  { readonly kind: 'charged'; readonly chargeId: string } | { readonly kind: 'declined' };

/** The payment provider's HTTP API. */
@Injectable()
export class PaymentProvider {
  constructor(@Inject(PAYMENT_PROVIDER_OPTIONS) private readonly options: PaymentProviderOptions) {}

  /**
   * Charges, once for the key however often it is called.
   *
   * 402 is the one refusal that is an outcome of the payment: no money has moved, and none will for this key. Any other
   * 4xx is about the request and not about the money: too early, too many, in flight, or that this app asks wrongly or
   * with bad credentials. A 422 even says that the key has charged another amount. None of these may end the order, and
   * the client can do nothing about them, so they are failures like those of 5xx: whether money moved is not known, and
   * the same key finds out.
   *
   * @throws GatewayTimeoutException when no answer came in time.
   * @throws BadGatewayException when the provider cannot be reached, breaks off, or answers anything else.
   */
  async charge({ key, amount, signal }: ChargeRequest): Promise<ChargeOutcome> {
    const timeout = AbortSignal.timeout(this.options.timeoutMs);
    try {
      const response = await fetch(`${this.options.url.replace(/\/+$/, '')}/charges`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': key },
        body: JSON.stringify({ amount }),
        // A redirected POST would arrive as a GET.
        redirect: 'error',
        signal: AbortSignal.any([signal, timeout]),
      });
      return await outcomeOf(response);
    } catch (error) {
      // The attempt is over: its own reason says more than a failed call.
      signal.throwIfAborted();
      if (error instanceof BadGatewayException) throw error;
      if (timeout.aborted) {
        throw new GatewayTimeoutException('The payment provider did not answer in time', { cause: error });
      }
      throw new BadGatewayException('The payment provider cannot be reached', { cause: error });
    }
  }
}

async function outcomeOf(response: Response): Promise<ChargeOutcome> {
  if (response.status === 402) {
    await response.body?.cancel();
    return { kind: 'declined' };
  }
  const text = await response.text();
  const chargeId = response.ok ? chargeIdOf(text) : undefined;
  if (chargeId !== undefined) return { kind: 'charged', chargeId };
  throw new BadGatewayException('The payment provider failed', {
    cause: new Error(`it answered ${response.status}: ${text.slice(0, 200)}`),
  });
}

function chargeIdOf(text: string): string | undefined {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body !== 'object' || body === null || !('chargeId' in body)) return undefined;
    return typeof body.chargeId === 'string' && body.chargeId !== '' ? body.chargeId : undefined;
  } catch {
    return undefined;
  }
}
