import type { StoredResponse } from '../store/record.js';

/** Headers that are sent with the first answer only, beside those that are stored: a cookie, a request id. */
export interface FirstHeaders {
  readonly headers: ReadonlyMap<string, string>;
  readonly cookies: readonly string[];
}

/** What a handler's answer came to. */
export type CapturedReply =
  /** The answer in bytes: they are sent the first time, and stored. */
  | { readonly kind: 'storable'; readonly response: StoredResponse; readonly first: FirstHeaders }
  /** The answer cannot be kept. `emit` goes to Nest, which answers the client as it would without this library. */
  | {
      readonly kind: 'unstorable';
      /** For operators; never a part of the answer. */
      readonly reason: string;
      readonly status: number;
      /** The allow-listed headers, as a tombstone keeps them. */
      readonly headers: Readonly<Record<string, string>>;
      readonly emit: unknown;
      readonly first: FirstHeaders;
    };

export const NO_FIRST_HEADERS: FirstHeaders = { headers: new Map(), cookies: [] };
