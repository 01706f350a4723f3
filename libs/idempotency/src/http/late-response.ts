import type { OutgoingHttpHeader } from 'node:http';
import { isFastify, type PlatformResponse, serializerOf } from './platform.js';

/**
 * The response as it stands now, for capturing the answer of a handler whose client is being answered without it: what is sent
 * to that client leaves no trace on it, and what the handler sets on it goes nowhere.
 */
export function lateResponse(response: PlatformResponse): PlatformResponse {
  const headers = new Map<string, OutgoingHttpHeader>();
  for (const [name, value] of Object.entries(headersOf(response))) {
    if (value !== undefined) headers.set(name.toLowerCase(), value);
  }
  const set = function (this: unknown, name: string, value: OutgoingHttpHeader): unknown {
    headers.set(name.toLowerCase(), value);
    return this;
  };
  const own: PropertyDescriptorMap = {
    statusCode: { value: response.statusCode, writable: true },
    getHeader: { value: (name: string) => headers.get(name.toLowerCase()) },
    setHeader: { value: set },
    removeHeader: { value: (name: string) => void headers.delete(name.toLowerCase()) },
  };
  if (isFastify(response)) {
    own['header'] = { value: set };
    // Its client is answered with text, by a serializer that leaves everything as it is.
    const serializer = serializerOf(response);
    if (serializer) own[serializer.symbol] = { value: serializer.value, writable: true };
  }
  // Everything else, as the settings that decide how JSON is written, is the response's own.
  return Object.create(response, own) as PlatformResponse;
}

function headersOf(response: PlatformResponse): Readonly<Record<string, OutgoingHttpHeader | undefined>> {
  return (
    response as unknown as { getHeaders(): Readonly<Record<string, OutgoingHttpHeader | undefined>> }
  ).getHeaders();
}
