/** The connection broke, was closed by the server, or was given up at a deadline. What it had not committed is gone. */
export class ConnectionLostError extends Error {
  override readonly name = 'ConnectionLostError';
}
