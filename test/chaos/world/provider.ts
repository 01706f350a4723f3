import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ProviderRequest } from '../app/provider.client.js';

export interface Provider {
  readonly url: string;
  close(): Promise<void>;
}

/** A payment provider that charges once for a downstream key, and tells of each request that comes. */
export async function startProvider(onCall: (request: ProviderRequest) => void): Promise<Provider> {
  const charges = new Map<string, string>();
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    // One that dies in the middle of its request has asked for nothing.
    request.on('end', () => {
      const asked = JSON.parse(Buffer.concat(chunks).toString()) as ProviderRequest;
      onCall(asked);
      const chargeId = charges.get(asked.downstreamKey) ?? `charge-${charges.size + 1}`;
      charges.set(asked.downstreamKey, chargeId);
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ chargeId }));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/charges`,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
