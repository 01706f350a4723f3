import {
  BadGatewayException,
  BadRequestException,
  ConflictException,
  ForbiddenException,
  GatewayTimeoutException,
  GoneException,
  HttpException,
  HttpVersionNotSupportedException,
  ImATeapotException,
  InternalServerErrorException,
  MethodNotAllowedException,
  MisdirectedException,
  NotAcceptableException,
  NotFoundException,
  NotImplementedException,
  PayloadTooLargeException,
  PreconditionFailedException,
  RequestTimeoutException,
  ServiceUnavailableException,
  UnauthorizedException,
  UnprocessableEntityException,
  UnsupportedMediaTypeException,
} from '@nestjs/common';
import type { StoredResponse } from '../store/record.js';
import type { PlatformResponse } from './platform.js';
import { setStoredHeaders, storedHeaders } from './replay-headers.js';
import { serialiseBody } from './serialised-body.js';

export interface ErrorCaptureOptions {
  /** Response headers to store beside `Content-Type`, any case. */
  readonly replayHeaders: readonly string[];
  /**
   * Largest body that is stored, in bytes.
   * @default Infinity
   */
  readonly maxBytes?: number;
}

/**
 * The answer Nest's default filter gives to an exception: its response object, or `{ statusCode, message }` around a
 * string. `undefined` when it cannot be stored: not expressible as bytes, or too large.
 */
export function captureError(
  exception: HttpException,
  response: PlatformResponse,
  { replayHeaders, maxBytes = Infinity }: ErrorCaptureOptions,
): StoredResponse | undefined {
  const status = exception.getStatus();
  const serialised = serialiseBody(bodyOf(exception), { response, status, isError: true });
  if (serialised.kind === 'unserialisable' || serialised.body.byteLength > maxBytes) return undefined;
  const headers = storedHeaders(response, replayHeaders);
  delete headers['content-type'];
  if (serialised.contentType) headers['content-type'] = serialised.contentType;
  return { status, headers, body: serialised.body };
}

function bodyOf(exception: HttpException): unknown {
  const response: unknown = exception.getResponse();
  if (typeof response === 'object' && response !== null) return response;
  const { errorCode } = exception;
  return {
    statusCode: exception.getStatus(),
    message: response,
    ...(errorCode !== undefined && { errorCode }),
  };
}

type BuiltIn = new (body: object, options: { errorCode?: string }) => HttpException;

/** Nest's own exception classes by status, so that filters made for one of them take a replayed one too. */
const BUILT_IN: ReadonlyMap<number, BuiltIn> = new Map<number, BuiltIn>([
  [400, BadRequestException],
  [401, UnauthorizedException],
  [403, ForbiddenException],
  [404, NotFoundException],
  [405, MethodNotAllowedException],
  [406, NotAcceptableException],
  [408, RequestTimeoutException],
  [409, ConflictException],
  [410, GoneException],
  [412, PreconditionFailedException],
  [413, PayloadTooLargeException],
  [415, UnsupportedMediaTypeException],
  [418, ImATeapotException],
  [421, MisdirectedException],
  [422, UnprocessableEntityException],
  [500, InternalServerErrorException],
  [501, NotImplementedException],
  [502, BadGatewayException],
  [503, ServiceUnavailableException],
  [504, GatewayTimeoutException],
  [505, HttpVersionNotSupportedException],
]);

/**
 * The exception that a replay throws in place of the first one, so that it takes the same way through the application's
 * filters and comes out as the same bytes. It has the stored body and status, and the class Nest has for that status;
 * the class of an application's own exception is not restored.
 */
export function revivedException(stored: StoredResponse): HttpException {
  const text = stored.body?.toString('utf8') ?? '';
  const body = parsed(text);
  if (typeof body !== 'object' || body === null) return new HttpException(text, stored.status);
  const errorCode = 'errorCode' in body && typeof body.errorCode === 'string' ? body.errorCode : undefined;
  const options = errorCode === undefined ? {} : { errorCode };
  const Class = Array.isArray(body) ? undefined : BUILT_IN.get(stored.status);
  return Class ? new Class(body, options) : new HttpException(body, stored.status, options);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * {@link revivedException}, with the headers of the stored answer put on the response first. Not the content type:
 * what answers an exception sets its own.
 */
export function reviveError(response: PlatformResponse, stored: StoredResponse): HttpException {
  const { 'content-type': _, ...headers } = stored.headers;
  setStoredHeaders(response, headers, true);
  return revivedException(stored);
}
