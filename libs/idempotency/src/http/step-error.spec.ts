import {
  BadRequestException,
  ConflictException,
  HttpException,
  ImATeapotException,
  NotFoundException,
} from '@nestjs/common';
import { describe, expect, it } from 'vitest';
import { JournaledError } from '../lease/lease.errors.js';
import { decodeResult, encodeResult } from '../lease/step-codec.js';
import { stepErrors } from './step-error.js';

/** The error as every attempt gets it: through the journal's bytes. */
const journaled = (error: unknown, cause?: unknown): Error =>
  stepErrors.decode(decodeResult(encodeResult(stepErrors.encode(error))), cause);

class CardDeclined extends HttpException {
  constructor(readonly reason: string) {
    super({ reason, emoji: '💳' }, 402);
  }
}

describe('the final error of a step', () => {
  it.each<[string, HttpException]>([
    ['a text', new ConflictException('sold out')],
    ['no text', new NotFoundException()],
    ['an object', new BadRequestException({ errors: [{ field: 'a' }] })],
    ['a list', new HttpException([1, 2] as never, 409)],
    ['an own class', new CardDeclined('limit')],
    ['a text alone', new HttpException('short and stout', 418)],
    ['a text that is JSON', new HttpException('{"a":1}', 409)],
    ['an empty text', new HttpException('', 409)],
    ['a status that Nest has no class for', new HttpException({ a: 1 }, 599)],
  ])('that is an HttpException with %s comes back with its status and body', (_what, error) => {
    const back = journaled(error);
    expect(back).toBeInstanceOf(HttpException);
    expect((back as HttpException).getStatus()).toBe(error.getStatus());
    expect((back as HttpException).getResponse()).toEqual(error.getResponse());
  });

  it('has the class that Nest has for its status, so that filters take it', () => {
    expect(journaled(new ConflictException('sold out'))).toBeInstanceOf(ConflictException);
    expect(journaled(new ImATeapotException())).toBeInstanceOf(ImATeapotException);
  });

  it('that is any other error comes back with its name and message', () => {
    class Declined extends Error {
      override readonly name = 'Declined';
    }
    const back = journaled(new Declined('no funds'));
    expect(back).toBeInstanceOf(JournaledError);
    expect({ name: back.name, message: back.message }).toEqual({ name: 'Declined', message: 'no funds' });
    expect(`${back}`).toBe('Declined: no funds');
  });

  it.each([
    ['text', 'text'],
    [undefined, 'undefined'],
    [null, 'null'],
    [{ a: 1 }, '[object Object]'],
  ])('that is no error at all (%o) comes back as one', (thrown, message) => {
    const back = journaled(thrown);
    expect({ name: back.name, message: back.message }).toEqual({ name: 'Error', message });
  });

  it.each([new Error('declined'), new ConflictException('declined')])(
    'carries the error itself where it is at hand, and none where it is not (%s)',
    (error) => {
      expect(journaled(error, error).cause).toBe(error);
      expect(journaled(error).cause).toBeUndefined();
    },
  );

  it('keeps nothing but what it answers: neither stack nor members', () => {
    const error = Object.assign(new Error('declined'), { card: '4111 1111 1111 1111' });
    expect(stepErrors.encode(error)).toEqual({ name: 'Error', message: 'declined' });
  });
});
