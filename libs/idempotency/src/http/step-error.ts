import { HttpException } from '@nestjs/common';
import { type ErrorCodec } from '../lease/step-codec.js';
import { JournaledError } from '../lease/lease.errors.js';
import { revivedException } from './stored-error.js';

interface EncodedError {
  readonly name: string;
  readonly message: string;
  /** Of an `HttpException`. */
  readonly status?: number;
  readonly response?: unknown;
}

/** Final errors of steps in JSON: an `HttpException` with what it answers, any other error with its name and message. */
export const stepErrors: ErrorCodec = {
  encode(error): EncodedError {
    if (error instanceof HttpException) {
      const { name, message } = error;
      return { name, message, status: error.getStatus(), response: error.getResponse() };
    }
    if (error instanceof Error) return { name: error.name, message: error.message };
    return { name: 'Error', message: String(error) };
  },
  decode(encoded, cause): Error {
    const { name, message, status, response } = encoded as EncodedError;
    const options = cause === undefined ? undefined : { cause };
    if (status === undefined) return new JournaledError(name, message, options);
    const revived =
      typeof response === 'string'
        ? new HttpException(response, status)
        : revivedException({ status, headers: {}, body: Buffer.from(JSON.stringify(response)) });
    if (cause !== undefined) revived.cause = cause;
    return revived;
  },
};
